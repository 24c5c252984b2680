"""The documents' worked examples, through the doors as a reader would run them."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from whole_runs import instead

import metarl
from metarl.commands import check_env, evaluate, train
from metarl.types import Workers

ROOT = Path(__file__).resolve().parents[1]
OWN = "docs/custom_environments.md"
AGENTS = "docs/agents.md"
BLOCK = re.compile(r"^```python\n(# (\S+\.py)\n.*?)^```$", re.M | re.S)
TARGET = re.compile(r"\b(my_tasks\.\w+):(\w+)")
SMALL = ["--iterations", "2", "--sampling.tasks", "4", "--sampling.episodes", "4"]


class Example(NamedTuple):
    """A code block that is a module, `file`."""

    document: str
    file: str
    code: str
    target: str
    """Its distribution of tasks, as the document names it; empty for a script."""


def examples(document: str) -> list[Example]:
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = {module: f"{module}:{attribute}" for module, attribute in TARGET.findall(text)}
    return [
        Example(document, file, code, targets.get(file.removesuffix(".py").replace("/", "."), ""))
        for code, file in BLOCK.findall(text)
    ]


ALL = examples(OWN) + examples(AGENTS)
TASKS = [one for one in ALL if one.file.startswith("my_tasks/")]
SCRIPTS = [one for one in ALL if one not in TASKS and one.document != AGENTS]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder for each document, with its examples in it."""
    made = {}
    for one in ALL:
        folder = made.setdefault(one.document, tmp_path_factory.mktemp("examples"))
        path = folder / one.file
        path.parent.mkdir(exist_ok=True)
        path.write_text(one.code, encoding="utf-8")
    return made


@pytest.fixture
def modules_of(folders, monkeypatch):
    """Makes a document's modules importable here, for the length of a test."""

    def of(document):
        monkeypatch.syspath_prepend(str(folders[document]))

    yield of
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


@pytest.fixture
def own(modules_of):
    modules_of(OWN)
    return lambda name: importlib.import_module(f"my_tasks.{name}")


def run(folder: Path, *argv: str) -> str:
    """Runs Python as in a terminal in `folder`; returns what it printed."""
    paths = [str(Path(metarl.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, *argv],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_module_in_the_document_is_an_example():
    text = (ROOT / OWN).read_text(encoding="utf-8")
    assert len(examples(OWN)) == text.count("```python")
    assert all(one.target for one in TASKS), "a reader must be told what to name"


@pytest.mark.slow
@pytest.mark.parametrize("one", TASKS, ids=lambda one: f"{one.document}-{one.file}")
def test_an_example_is_trained_on_and_evaluated(one, folders, modules_of, monkeypatch):
    """The first from a shell, the others by the same doors in this process."""
    folder, name = folders[one.document], Path(one.file).stem
    workers = ("0", "2")[TASKS.index(one) % 2]
    where = ["--run-dir", f"runs/{name}", "--workers", workers, "--device", "cpu"]
    learn = ["point-goal", "--env", one.target, *SMALL, *where]
    small = ["--tasks", "3", "--episodes", "2", "--steps", "1"]
    judge = [f"runs/{name}", "--env", one.target, *small]
    if one is TASKS[0]:
        run(folder, "-m", "metarl.train", *learn)
        run(folder, "-m", "metarl.evaluate", *judge)
    else:
        modules_of(one.document)
        monkeypatch.chdir(folder)
        train.main(learn)
        evaluate.main(judge)
    kept = folder / "runs" / name
    assert len((kept / "metrics.jsonl").read_text().splitlines()) == 2
    found = json.loads((kept / "evaluation" / "adaptation.json").read_text())
    assert found["env"] == one.target
    assert np.shape(found["returns"]) == (3, 2, 2)
    for file in ("evaluation/adaptation.csv", "evaluation/adaptation.png", "report.html"):
        assert (kept / file).stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("one", TASKS, ids=lambda one: f"{one.document}-{one.file}")
def test_an_example_passes_its_checks(one, modules_of, capsys):
    """The document's table has a row for each line that is printed."""
    modules_of(one.document)
    check_env.main([one.target, "--workers", "0"])  # it exits where a check fails
    said = capsys.readouterr().out
    text = (ROOT / OWN).read_text(encoding="utf-8")
    names = [line[9:22].rstrip() for line in said.splitlines() if re.match(r"(ok|warning) ", line)]
    assert len(names) >= 9
    assert all(f"| `{name}` |" in text for name in names), names


@pytest.mark.slow
@pytest.mark.parametrize("one", SCRIPTS, ids=lambda one: one.file)
def test_a_script_trains_what_evaluate_takes(one, folders, modules_of, monkeypatch):
    folder = folders[one.document]
    modules_of(one.document)
    monkeypatch.chdir(folder)
    run(folder, one.file)
    [kept] = [path.parent for path in folder.glob("runs/few/config.yaml")]
    found = metarl.load_config(kept / "config.yaml")
    assert len((kept / "metrics.jsonl").read_text().splitlines()) == found.iterations
    small = ["--tasks", "2", "--episodes", "2", "--steps", "1"]
    evaluate.main([str(kept), "--env", found.env.name, *small])


@pytest.mark.slow
def test_own_agents_keep_every_promise(folders):
    """The document's script asserts it."""
    lines = run(folders[AGENTS], "check_my_agents.py").splitlines()
    assert len(lines) == 20
    assert all(line.startswith("ok ") for line in lines), lines


@pytest.mark.slow
def test_own_agents_are_trained_and_evaluated(folders, modules_of, monkeypatch):
    """By the document's own commands, on few tasks."""
    modules_of(AGENTS)
    monkeypatch.chdir(folders[AGENTS])
    text = (ROOT / AGENTS).read_text(encoding="utf-8")
    made = re.findall(r"^    metarl train (.*--agent my_\w+:.*)$", text, re.M)
    used = re.findall(r"^    metarl evaluate (.*--agent my_\w+:.*)$", text, re.M)
    assert len(made) == len(used) == 2
    for line in made:
        train.main(instead(shlex.split(line), *SMALL, "--device", "cpu", "--workers", "0"))
    for line in used:
        small = ["--tasks", "2", "--episodes", "2", "--steps", "1"]
        evaluate.main(instead(shlex.split(line), *small))


@pytest.mark.parametrize("document", [OWN, AGENTS])
def test_the_commands_in_a_document_have_flags_that_exist(document, folders, modules_of):
    if document in folders:
        modules_of(document)
    text = (ROOT / document).read_text(encoding="utf-8")
    commands = re.findall(r"^    metarl (train|check-env) ([^#\n]+)", text, re.M)
    read = {"train": train.read, "check-env": check_env.read}
    argvs = [(door, shlex.split(line)) for door, line in commands]
    asked = [(door, argv) for door, argv in argvs if not {"--help", "--config"} & {*argv}]
    assert asked
    for door, argv in asked:
        read[door](argv)


def environment(tasks, task):
    """The gymnasium environment that plays a task, after a reset."""
    pool = tasks.open(1, 1, Workers(0))
    pool.set_tasks([task])
    pool.reset(np.zeros((1, 1), np.uint64))
    return pool.executor._share._envs[0].env.unwrapped


def test_a_pole_is_as_long_as_its_task_says(own):
    """The product that CartPole's constructor computes follows; by its name alone it does not."""
    task = {"gravity": 7.0, "length": 1.0}
    cart = environment(own("poles").tasks, task)
    assert (cart.gravity, cart.length) == (7.0, 1.0)
    assert cart.polemass_length == cart.masspole * 1.0
    plain = metarl.gym_tasks("CartPole-v1", {"length": metarl.Uniform(0.5, 1)}, horizon=9)
    cart = environment(plain, {"length": 1.0})
    assert cart.length == 1.0
    assert cart.polemass_length == cart.masspole * 0.5


def test_a_heavier_torso_is_in_the_mass_of_its_subtree(own):
    tasks = own("hopper").tasks
    one = dict.fromkeys(tasks.sample(1, np.random.default_rng(0))[0], 1.0)
    plain = environment(tasks, one).model
    heavy = environment(tasks, {**one, "model.body_mass[1]": 2.0}).model
    assert heavy.body_mass[1] == 2 * plain.body_mass[1]
    assert heavy.body_subtreemass[1] - plain.body_subtreemass[1] == pytest.approx(
        plain.body_mass[1]
    )


def test_pendulums_are_tested_at_lengths_between_those_of_training(own):
    tasks, rng = own("pendulum").tasks, np.random.default_rng(0)
    train_lengths, test_lengths = (
        np.array([task["l"] for task in tasks.sample(300, rng, split)])
        for split in ("train", "test")
    )
    inside = (train_lengths >= 0.9) & (train_lengths <= 1.1)
    assert not inside.any()
    assert {*(train_lengths < 0.9)} == {True, False}
    assert ((test_lengths >= 0.9) & (test_lengths <= 1.1)).all()


def test_the_lakes_places_are_sixteen_numbers(own):
    from metarl.envs import catalogue

    name = "my_tasks.lake:Lakes"
    assert own("lake").Lakes.horizon == catalogue.default_horizon(name)
    assert catalogue.make(name, 20, named=name).spec.obs_dim == 16
