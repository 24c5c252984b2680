"""A user without a home folder, whose number no passwd entry names, with a cache that is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import metarl

NOBODY = """
import os, pwd

def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = unknown
os.getuid = os.geteuid = lambda: 12345
"""
"""Code that makes Python find what it finds in a container with `--user 12345`: no name."""
COMMANDS = """
import sys
from metarl.commands import check_env, evaluate, report, train
from metarl.config.command_line import open_door

small = "--sampling.tasks 2 --sampling.episodes 2 --env.horizon 10 --iterations 1 --device cpu"
for door, line in (
    (train, f"halfcheetah-vel-quick {small} --run-dir run --workers 0"),
    (evaluate, "run --tasks 2 --steps 1 --episodes 2 --workers 0"),
    (report, "run"),
    (check_env, "point-goal --tasks 2 --episodes 2 --horizon 5 --workers 0 --plot returns.png"),
):
    sys.argv = [door.__name__, *line.split()]
    open_door(door.main)
"""
ELSEWHERE = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")


@pytest.mark.parametrize("home", [None, os.devnull])
def test_every_command_works_and_has_nothing_to_say_about_it(home: str | None, tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(NOBODY)
    paths = [str(tmp_path), str(Path(metarl.__file__).parents[1])]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    env |= dict.fromkeys(ELSEWHERE, home) if home else {}
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS], capture_output=True, text=True, cwd=tmp_path, env=env
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run" / "report.html").is_file()
    assert (tmp_path / "returns.png").is_file()
