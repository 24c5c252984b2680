"""The door of the checks: what it takes, what it prints, how it exits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metarl.commands import check_env
from metarl.config.command_line import open_door

ROOT = Path(check_env.__file__).parents[2]
OWN = Path(__file__).parent / "checking"
HEAVY = ("torch", "mujoco", "gymnasium", "scipy", "matplotlib", "numpy")


def door(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(OWN)])
    return subprocess.run(
        [sys.executable, "-m", "metarl.check_env", *arguments],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def test_help_is_light():
    script = (
        "import runpy, sys; sys.argv = ['door', '--help']\n"
        "try:\n"
        "    runpy.run_module('metarl.check_env', run_name='__main__')\n"
        "finally:\n"
        f"    print('HEAVY:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "HEAVY: []" in done.stdout
    for flag in ("tasks", "episodes", "horizon", "seed", "workers", "max-steps", "plot"):
        assert f"--{flag}" in done.stdout


def test_good_tasks_exit_0_and_are_drawn(tmp_path: Path):
    picture = tmp_path / "returns.png"
    line = f"wrong_envs:walk --tasks 8 --episodes 6 --workers 1 --plot {picture}"
    done = door(*line.split())
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 14
    assert all(line.startswith("ok ") for line in lines[:12])
    assert " steps/s in this process, " in lines[10]
    assert lines[12:] == ["wrong_envs:walk: 12 checks: 12 ok", str(picture)]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_faulty_tasks_exit_1(tmp_path: Path):
    picture = tmp_path / "returns.png"
    done = door("wrong_envs:breaking", "--workers", "0", "--plot", str(picture))
    assert done.returncode == 1
    assert done.stderr == ""
    assert "\nFAIL     faults        Breaking: step raised ZeroDivisionError: " in done.stdout
    assert f"\n{' ' * 25}Traceback (most recent call last):\n" in done.stdout
    assert "\nskipped  endings       it needs faults\n" in done.stdout
    assert done.stdout.endswith(f"{picture} is not drawn: there are no returns\n")
    assert not picture.exists()


BAD = {
    "": "no tasks given; the first argument is one of half-cheetah-vel:maml2017, ",
    "CartPole-v1": "'CartPole-v1' is one environment; write a file my_tasks.py",
    "ALE/Pong-v5": "gym_tasks('ALE/Pong-v5', ",
    "point-gaol": "'point-gaol' is no task distribution; did you mean 'point-goal'?",
    "nothing.here:tasks": "there is no module 'nothing'",
    "point-goal --tasks 1": "tasks is 1; it must be at least 2",
    "point-goal --task 4": "--task is no flag; did you mean --tasks?",
    "point-goal --horizon long": "--horizon is 'long'; expected a whole number at least 1",
    "point-goal --plot returns.pdf": "--plot is 'returns.pdf'; give a .png",
    "point-goal --plot no/folder/returns.png": "give a .png file in an existing folder",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_answered_in_three_lines(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["door", *line.split()])
    with pytest.raises(SystemExit) as stopped:
        open_door(check_env.main)
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert BAD[line] in err
    assert len(err.splitlines()) <= 3


def test_the_example_in_the_error_is_right(capsys: Any, monkeypatch: pytest.MonkeyPatch):
    """The line that it says to write makes a distribution."""
    monkeypatch.setattr(sys, "argv", ["door", "CartPole-v1"])
    with pytest.raises(SystemExit):
        open_door(check_env.main)
    example = capsys.readouterr().err.splitlines()[1]
    names: dict[str, Any] = {}
    exec(example.strip(), names)
    assert names["tasks"].spec.obs_dim == 4
    assert names["tasks"].horizon == 200


def test_the_horizon_of_the_line_is_played(capsys: pytest.CaptureFixture[str]):
    check_env.main("point-goal --horizon 7 --tasks 5 --episodes 2 --workers 0".split())
    text = capsys.readouterr().out
    assert "horizon 7; 5 tasks such as" in text
    assert "10 episodes last 7.0 steps on average" in text


def test_other_seeds_draw_other_tasks(capsys: pytest.CaptureFixture[str]):
    def first_line(seed: int) -> str:
        line = f"point-goal --horizon 7 --tasks 5 --episodes 2 --workers 0 --seed {seed}"
        check_env.main(line.split())
        return capsys.readouterr().out.splitlines()[0]

    assert first_line(1) != first_line(2)
