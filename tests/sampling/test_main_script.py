"""Scripts that start workers: from a file, standard input, typed in, with and without guard."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import metarl

ROOT = Path(metarl.__file__).parents[1]
BODY = """
import gymnasium
import numpy as np
from metarl import Uniform, Workers, gym_tasks

class Walk(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    slope = 1.0
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}
    def step(self, action):
        return np.array([self.slope], np.float32), self.slope, False, False, {}

def play():
    env = gym_tasks(Walk, {"slope": Uniform(0.5, 1)}, horizon=3).open(1, 2, Workers(1))
    env.set_tasks([{"slope": 0.75}])
    env.reset(np.zeros((1, 2), np.uint64))
    print("reward", env.step(np.zeros((1, 2, 1), np.float32)).rewards.tolist())
    env.close()

"""
TRAIN = """
def train():
    from dataclasses import replace
    from metarl import EnvConfig, preset
    from metarl.loop.training import train
    usual = preset("point-goal")
    few = replace(usual.sampling, tasks=2, episodes=2)
    config = replace(usual, env=EnvConfig("mine:tasks", 3), sampling=few, iterations=1,
                     workers=1, device="cpu", run_dir="run")
    train(config, "mine", gym_tasks(Walk, {"slope": Uniform(0.5, 1)}, horizon=3))

"""
GUARD = 'if __name__ == "__main__":\n    '
PLAYED = "reward [[0.75, 0.75]]"


def run(folder: Path, *line: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """Runs Python in `folder`, with `text` as its standard input."""
    return subprocess.run(
        [sys.executable, *line], input=text, cwd=folder, capture_output=True, text=True,
        timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.parametrize("how", ["file", "module", "stdin", "pipe", "-c", "-i"])
def test_workers_start_wherever_the_code_is(how: str, tmp_path: Path):
    """Only a file or a module can be imported by a worker, and only these need the guard."""
    script = tmp_path / "script.py"
    script.write_text(BODY + GUARD + "play()\n")
    typed = BODY + "play()\n"
    if how == "file":
        done = run(tmp_path, "script.py")
    elif how == "module":
        done = run(tmp_path, "-m", "script")
    elif how == "stdin":
        done = run(tmp_path, "-", text=typed)
    elif how == "pipe":
        script.write_text(typed)
        shell = f"{sys.executable} <(cat script.py)"
        done = subprocess.run(
            ["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, timeout=120,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    elif how == "-c":
        done = run(tmp_path, "-c", typed)
    else:  # an empty line ends a class, and `->` is part of the prompt
        lines = [line for line in typed.splitlines() if line.strip()]
        ended = [
            f"\n{line}" if line[0] != " " and index and lines[index - 1][0] == " " else line
            for index, line in enumerate(lines)
        ]
        done = run(tmp_path, "-i", text="\n".join(ended) + "\n")
    assert PLAYED in done.stdout, done.stderr


@pytest.mark.parametrize("what", ["play()", "train()"])
def test_a_missing_guard_is_named(what: str, tmp_path: Path):
    (tmp_path / "script.py").write_text(BODY + TRAIN + what + "\n")
    done = run(tmp_path, "script.py")
    assert done.returncode == 1
    *_, first, second = done.stderr.splitlines()
    assert first.endswith(
        f"worker 0 exited with code 113: it imports {tmp_path / 'script.py'}, "
        "which starts workers when it is imported"
    )
    assert second.startswith("put that under `if __name__ == '__main__':`")
    assert "spawn.py" not in done.stderr, "the worker says nothing"


def test_a_script_that_raises_in_the_worker_is_told_apart(tmp_path: Path):
    (tmp_path / "script.py").write_text(
        f"{BODY}{GUARD}play()\nelse:\n    raise ZeroDivisionError('mine')\n"
    )
    done = run(tmp_path, "script.py")
    *_, first, second = done.stderr.splitlines()
    assert "ZeroDivisionError: mine" in done.stderr
    script = tmp_path / "script.py"
    assert first.endswith(f"exited with code 1 when it imported {script}; its own error is above")
    assert second.startswith("mend it, put it under `if __name__ == '__main__':`")
