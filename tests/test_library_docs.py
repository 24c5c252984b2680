"""The scripts of docs/library.md, as a reader would run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"^```python\n(# (\S+\.py)\n.*?)^```$", TEXT, re.M | re.S)
PRINTED = {
    "train_point_goal.py": r"(maml-trpo \d -[\d.]+\n){3}(random initialisation \d -[\d.]+\n){3}",
    "train_pendulums.py": r"\[[\d.]+, [\d.]+, [\d.]+\]\n",
    "train_with_callbacks.py": r"1 -[\d.]+\n2 -[\d.]+\n",
}


def test_every_script_has_its_output():
    assert {name for _, name in SCRIPTS} == set(PRINTED)
    assert TEXT.count("```python") == len(SCRIPTS)


@pytest.mark.slow
@pytest.mark.parametrize(("code", "name"), SCRIPTS, ids=[name for _, name in SCRIPTS])
def test_a_script_prints_results_alone(code, name, tmp_path):
    (tmp_path / name).write_text(code, encoding="utf-8")
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(PRINTED[name], done.stdout), done.stdout
