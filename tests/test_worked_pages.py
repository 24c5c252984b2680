"""Tutorials, examples and printed errors, as a reader would run them, with smaller numbers."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from whole_runs import instead

from metarl.commands import COMMANDS, train
from metarl.config.door import open_door

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
FILE = re.compile(r"# (\S+\.py)\n")
FEW = ["--sampling.tasks", "2", "--sampling.episodes", "2", "--workers", "0"]
EXAMPLES = ["--sampling.tasks", "2", "--sampling.updates", "2"]
ROUNDS = ["--tasks", "2", "--episodes", "2", "--steps", "1"]
SMALL = {
    "own_environment": {"train": ["--iterations", "1", *FEW], "evaluate": ROUNDS},
    "one_robot": {"train": ["--iterations", "1", *FEW], "evaluate": ROUNDS},
    "few_shot_images": {"train": ["--iterations", "1", *EXAMPLES], "evaluate": ["--tasks", "2"]},
    "metaworld": {
        "train": ["--iterations", "1", *FEW, "--env.horizon", "5", "--agent.policy.hidden", "8"],
        "evaluate": ["--tasks", "1", "--episodes", "2", "--steps", "1"],
    },
    "minigrid": {"train": ["--iterations", "1", *FEW], "evaluate": ROUNDS},
    "seeds_and_a_figure": {
        "train": ["--iterations", "1", *FEW, "--seeds", "2"],
        "evaluate": ["--tasks", "3", "--episodes", "2", "--steps", "1"],
    },
}
"""For each tutorial: flags in the place of its own, by command."""
EXAMPLE_SIZES = {
    "train_and_adapt": {"iterations": 1, "episodes": 2},
    "own_environment": {"iterations": 1, "held_out": 3},
    "deploy_policy": {"iterations": 1, "episodes": 2},
    "few_shot_images": {"iterations": 1, "sampling": {"tasks": 2, "updates": 2}, "workers": None},
    "minigrid_tiles": {"iterations": 1},
    "compare_seeds": {"seeds": (1, 2), "iterations": 1, "held_out": 2},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to work in, whose modules are importable and whose caches are its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("METARL_CACHE", str(tmp_path / "cache"))
    yield tmp_path
    for name in [*sys.modules]:
        held = getattr(sys.modules[name], "__file__", None) or ""
        if name.partition(".")[0] == "my_tasks" or held.startswith(
            (str(tmp_path), str(ROOT / "examples"))
        ):
            del sys.modules[name]


def follow(words: list[str], small: dict[str, list[str]]) -> None:
    """Runs a command line of a page in this process, or a script in another."""
    program, name, *argv = words
    if program == "python":
        paths = os.pathsep.join([str(ROOT), os.getcwd()])
        environment = {**os.environ, "PYTHONPATH": paths, "MPLBACKEND": "agg"}
        done = subprocess.run(
            [sys.executable, name], env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return
    assert program == "metarl"
    argv = instead(argv, *small.get(name, []))
    argv += ["--device", "cpu"] if name == "train" else []
    import_module(COMMANDS[name].module).main(argv)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_tutorial_runs_from_its_first_block_to_its_last(name, folder, monkeypatch):
    text = (ROOT / "docs" / "tutorials" / f"{name}.md").read_text(encoding="utf-8")
    blocks = FENCE.findall(text)
    assert {language for language, _ in blocks} - {"text"} == {"python", "sh"}
    if name == "metaworld":
        from metarl.envs.metaworld import distribution, goals

        for module in (goals, distribution):  # drawing all of Meta-World's takes most of the time
            monkeypatch.setattr(module, "GOALS", 2)
    for language, code in blocks:
        if language == "python":
            found = FILE.match(code)
            assert found, "a block says which file it is"
            path = folder / found[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(code, encoding="utf-8")
            continue
        lines = code.replace("\\\n", " ").splitlines() if language == "sh" else []
        for line in lines:
            follow(shlex.split(line), SMALL[name])


@pytest.mark.slow
def test_the_first_lines_of_python_run(folder):
    """Those of the README, which train, and those of the first page, which need a run."""
    few = 'iterations=1, workers=0, sampling={"tasks": 2, "episodes": 2}'
    follow(
        shlex.split("metarl train point-goal --run-dir runs/point-goal"), SMALL["own_environment"]
    )
    for page in ("README.md", "docs/getting_started.md"):
        [(_, code)] = FENCE.findall((ROOT / page).read_text(encoding="utf-8"))
        found = FILE.match(code)
        assert found
        (folder / found[1]).write_text(code.replace("iterations=30", few), encoding="utf-8")
        follow(["python", found[1]], {})


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLE_SIZES)
def test_an_example_runs(name, folder, monkeypatch, capsys):
    path = ROOT / "examples" / f"{name}.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) < 45
    monkeypatch.syspath_prepend(str(path.parent))
    made = import_module(name)
    few = {"tasks": 2, "episodes": 2}
    sizes = {"sampling": few, "workers": 0, "device": "cpu", **EXAMPLE_SIZES[name]}
    made.main(**{key: value for key, value in sizes.items() if value is not None})
    assert capsys.readouterr().out


def test_every_example_is_run():
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == {*EXAMPLE_SIZES}


MISSPELT = """from metarl import Uniform, gym_tasks

tasks = gym_tasks("CartPole-v1", {"gravty": Uniform(5, 15)}, horizon=20)
"""
BROKEN = """import gymnasium, numpy as np
from metarl import Uniform, gym_tasks


class Walk(gymnasium.Env):
    observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    slope = 1.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), float("nan"), False, False, {}


tasks = gym_tasks(Walk, {"slope": Uniform(0, 1)}, horizon=20)
"""


def same_but_numbers(line: str) -> str:
    return re.sub(r"[\d.]+( [KMGTP]iB)?", "0", line)


@pytest.mark.slow
def test_the_errors_on_the_page_of_questions_are_printed(folder, capsys):
    """Each command is refused with the lines below it; numbers may differ."""
    (folder / "my_tasks").mkdir()
    for name, code in (("misspelt", MISSPELT), ("broken", BROKEN)):
        (folder / "my_tasks" / f"{name}.py").write_text(code)
    few = ["--iterations", "2", "--sampling.tasks", "4", "--sampling.episodes", "4"]
    train.main(["point-goal", *few, "--run-dir", "runs/small", "--workers", "0"])
    text = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
    shown = [code for language, code in FENCE.findall(text) if language == "console"]
    assert len(shown) > 10
    for block in shown:
        command, *lines = block.splitlines()
        _, _, name, *argv = shlex.split(command)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            open_door(lambda _: import_module(COMMANDS[name].module).main(argv), "")  # noqa: B023
        assert ended.value.code == 2, command
        said = {same_but_numbers(line) for line in capsys.readouterr().err.splitlines()}
        assert {same_but_numbers(line) for line in lines} - said == set(), (command, said)
