"""Evaluation on held-out supervised tasks: the numbers by hand, every file, every refusal."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from whole_runs import door

from metarl import keys
from metarl.agents import catalogue
from metarl.agents.outer.adam import AdamConfig
from metarl.commands import evaluate as evaluate_door
from metarl.commands import report, train
from metarl.config.files import dump
from metarl.config.options import EvaluateFewShotOptions
from metarl.config.settings import (
    FewShotConfig,
    FewShotEnvConfig,
    FewShotSamplingConfig,
    NetworkConfig,
)
from metarl.envs.splits import held_out
from metarl.envs.supervised import families
from metarl.equations.few_shot import accuracy, mean_squared_error
from metarl.errors import UserError
from metarl.experiments.assembly import check_same_tasks, run_config
from metarl.experiments.presets import preset
from metarl.loop import evaluation
from metarl.loop.evaluation import evaluate
from metarl.loop.learners import trained as saved_agent
from metarl.loop.training import train as meta_train
from metarl.runs import checkpoint
from metarl.runs.adaptation import Adaptation, read_json
from metarl.sources import examples
from metarl.sources.examples import HeldOutExamples
from metarl.types import Curves, Examples

CPU = torch.device("cpu")
ENVS = {
    "sinusoid": FewShotEnvConfig("sinusoid", shots=4, queries=6),
    "digits": FewShotEnvConfig("digits", shots=2, queries=3, ways=4),
}
SHOWN = {"sinusoid": 4, "digits": 8}
"""Examples that a task shows."""


def config_of(env: str, run_dir: Path, agent: str = "maml", iterations: int = 1) -> FewShotConfig:
    config = replace(catalogue.default(agent, "examples"), network=NetworkConfig(hidden=(6,)))
    return FewShotConfig(
        env=ENVS[env],
        sampling=FewShotSamplingConfig(tasks=3, updates=2),
        agent=config,
        iterations=iterations,
        checkpoint_every=1,
        device="cpu",
        run_dir=str(run_dir),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run of every kind: sinusoid, digits, and other learners of them."""
    folder = tmp_path_factory.mktemp("trained")
    meta_train(config_of("sinusoid", folder / "sinusoid"), "x")
    meta_train(config_of("sinusoid", folder / "rival", "from-scratch"), "x")
    meta_train(config_of("digits", folder / "digits", "protonet"), "x")
    return folder


@pytest.fixture
def runs(trained, tmp_path) -> Path:
    """Copies, to be evaluated."""
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def options_of(run_dir: Path, **options) -> EvaluateFewShotOptions:
    return EvaluateFewShotOptions(**{"run_dir": run_dir, "tasks": 7, "steps": 2, **options})


def evaluated(run_dir: Path, **options) -> Adaptation:
    return read_json(evaluate(options_of(run_dir, **options)).with_name("adaptation.json"))


def numbers(run_dir: Path, **options):
    """An evaluation's tasks and values, without its files and pictures."""
    config, asked = config_in(run_dir), options_of(run_dir, **options)
    held = HeldOutExamples(families.build(config.env), config, asked, CPU)
    learner, _ = saved_agent(run_dir, config, held, asked, CPU)
    return held, held.adapt(learner, "x").values


def config_in(run_dir: Path) -> FewShotConfig:
    config = run_config(run_dir)
    assert isinstance(config, FewShotConfig)
    return config


@pytest.mark.parametrize("env", ENVS)
def test_what_an_evaluation_leaves_behind(runs, env, capfd):
    """Every file; numbers that come back; predictions of curves alone; a table."""
    found = evaluated(runs / env, controls=("random",))
    files = {path.name for path in (runs / env / "evaluation").iterdir()}
    pictures = {"adaptation.png", *({"predictions.png"} if env == "sinusoid" else ())}
    assert files == {"adaptation.json", "adaptation.csv", *pictures}
    assert (runs / env / "report.html").exists()
    assert (found.env, found.split, found.steps) == (env, "test", (0, 1, 2))
    assert found.env_steps == (0, SHOWN[env], SHOWN[env])
    assert found.outcome.values.shape == (7, 3, 1)
    assert set(found.controls) == {"random initialisation"}
    assert found.made_from == {
        "iteration": 1,
        "checkpoint": "latest",
        "seed": 1,
        "inner_lr": found.made_from["inner_lr"],  # see test_step_size.py
        "shots": ENVS[env].shots,
        "settings": found.made_from["settings"],  # see test_named_evaluations.py
    }
    said = capfd.readouterr().out
    for name in (*files, "report.html"):
        assert name == "adaptation.csv" or f"/{name}" in said
    assert ("accuracy" if env == "digits" else "mean-squared error") in said
    lines = list(csv.DictReader((runs / env / "evaluation" / "adaptation.csv").open()))
    assert len(lines) == 2 * 7 * 3
    last = lines[7 * 3 - 1]
    assert (last["learner"], last["task"], last["step"]) == (found.agent, "6", "2")
    value = float(last["accuracy" if env == "digits" else "mean_squared_error"])
    assert value == found.outcome.values[6, 2, 0]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("text_table", BrokenPipeError()),
        ("adaptation_figure", RuntimeError("no font")),
        ("adaptation_figure", KeyboardInterrupt()),
    ],
)
def test_numbers_stay_whatever_ends_an_evaluation_after_them(runs, line, error, monkeypatch):
    evaluate(options_of(runs / "sinusoid", seed=2))
    old = (runs / "sinusoid" / "evaluation" / "adaptation.json").read_bytes()

    def ends(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, line, ends)
        with pytest.raises(type(error)):
            evaluate(options_of(runs / "sinusoid"))
    files = {path.name: path for path in (runs / "sinusoid" / "evaluation").iterdir()}
    # No picture is of the old ones, which are kept.
    assert set(files) == {"adaptation.json", "adaptation.csv", "earlier-1"}
    assert (files["earlier-1"] / "adaptation.json").read_bytes() == old
    assert files["adaptation.json"].read_bytes() != old


def test_numbers_that_cannot_be_published_are_kept_elsewhere(runs, monkeypatch, tmp_path):
    """As on a full disk, after hours of play."""
    evaluate(options_of(runs / "sinusoid", seed=2))
    old = (runs / "sinusoid" / "evaluation" / "adaptation.json").read_bytes()
    force = os.fsync

    def full(descriptor: int) -> None:
        if "evaluation/.test.new/" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        force(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(UserError, match="No space left") as told:
        evaluate(options_of(runs / "sinusoid"))
    kept = Path(str(told.value).rpartition("kept in ")[2])
    assert kept.parent == tmp_path
    assert {path.name for path in kept.iterdir()} == {"adaptation.json", "adaptation.csv"}
    assert json.loads((kept / "adaptation.json").read_bytes())["tasks"]
    assert (runs / "sinusoid" / "evaluation" / "adaptation.json").read_bytes() == old


def test_the_iteration_is_that_of_the_weights_of_a_run_that_trains_on(runs, monkeypatch):
    adapt = HeldOutExamples.adapt

    def trained_meanwhile(self, agent, name, watch):
        saved = checkpoint.load_latest(runs / "sinusoid" / "checkpoints")
        assert saved is not None
        checkpoint.save(saved.path.parent, 2, saved.tensors, saved.state, 0.0)
        return adapt(self, agent, name, watch)

    monkeypatch.setattr(HeldOutExamples, "adapt", trained_meanwhile)
    assert evaluated(runs / "sinusoid").made_from["iteration"] == 1


def test_tasks_with_long_descriptions_are_refused_before_they_are_learned(runs, monkeypatch):
    monkeypatch.setattr(evaluation, "described", lambda tasks: 3_000_000)
    monkeypatch.setattr(HeldOutExamples, "adapt", None)
    with pytest.raises(UserError, match="at most 2,000,000 can be read"):
        evaluate(options_of(runs / "sinusoid"))


@pytest.mark.parametrize("env", ENVS)
def test_the_numbers_are_those_by_hand(trained, env):
    """The saved weights, on tasks drawn in batches of 50, each learned by itself."""
    run, config = trained / env, config_in(trained / env)
    held, values = numbers(run, tasks=53)
    known = families.build(config.env)
    learner = catalogue.build(known.spec, config.agent, np.random.default_rng(8), CPU)
    saved = checkpoint.load_latest(run / "checkpoints")
    assert saved is not None
    learner.load_state_dict(saved.tensors)
    tasks = known.sample(53, keys.generator(1, keys.Purpose.EVALUATION_TASKS), "test")
    assert list(held.tasks) == list(tasks)
    measure = accuracy if known.spec.classes else mean_squared_error
    for start in (0, 50):
        some = tasks[start : start + 50]
        rng = keys.generator(1, keys.Purpose.EVALUATION, start)
        support, query = known.draw(some, config.env.shots, config.env.queries, rng)
        for i in range(len(some)):
            ours, theirs = (Examples(*(x[i : i + 1] for x in part)) for part in (support, query))
            state = learner.begin()
            for step in range(3):
                expected = measure(learner.predict(state, theirs.inputs), theirs.targets)
                value = values[start + i, step, 0]
                assert value == pytest.approx(float(expected), rel=1e-4)
                state = learner.adapt(state, ours)


def test_the_same_seed_gives_the_same_bytes_and_another_other_tasks(runs):
    stored = runs / "sinusoid" / "evaluation" / "adaptation.json"
    evaluate(options_of(runs / "sinusoid"))
    first = stored.read_bytes()
    evaluate(options_of(runs / "sinusoid"))
    assert stored.read_bytes() == first
    held, _ = numbers(runs / "sinusoid", seed=2)
    assert held.tasks != json.loads(first)["tasks"]


def test_it_starts_each_time_from_the_meta_parameters(trained):
    """The first points are the same however many steps follow them."""
    (_, short), (_, longer) = (numbers(trained / "sinusoid", steps=steps) for steps in (1, 4))
    assert np.array_equal(short, longer[:, :2])


def test_tasks_are_held_out_and_training_tasks_go_beside_them(runs):
    for split in ("test", "train"):
        held, _ = numbers(runs / "sinusoid", split=split)
        quantiles = np.array([(task["amplitude"] - 0.1) / 4.9 for task in held.tasks])
        assert held_out(quantiles).tolist() == [split == "test"] * 7
    held, _ = numbers(runs / "digits")
    assert {c for task in held.tasks for c in task["classes"]} == {5, 6, 7, 8, 9}
    found = evaluated(runs / "sinusoid", split="train")
    assert found.split == "train"
    assert not (runs / "sinusoid" / "evaluation" / "adaptation.json").exists()
    assert (runs / "sinusoid" / "evaluation" / "train" / "predictions.png").exists()


def test_other_shots_are_shown_where_they_are_asked_for(runs):
    found = evaluated(runs / "digits", shots=5)
    assert (found.env_steps, found.made_from["shots"]) == ((0, 20, 20), 5)
    assert np.array_equal(found.outcome.values, numbers(runs / "digits", shots=5)[1])
    (_, usual), (_, same) = (numbers(runs / "digits", shots=shots) for shots in (0, 2))
    assert np.array_equal(usual, same)
    assert not np.array_equal(usual, found.outcome.values)
    with pytest.raises(UserError, match=r"class \d has \d+ examples, and a task takes 503 of each"):
        numbers(runs / "digits", shots=500)


def test_runs_are_compared_on_the_same_tasks(runs):
    """The run itself beside itself is itself; one like the learner's own name is told apart, in
    the CSV too; one trained with other shots sees as many as this run."""
    shutil.copytree(runs / "sinusoid", runs / "maml")
    other = config_of("sinusoid", runs / "five")
    meta_train(replace(other, env=replace(other.env, shots=5, queries=2)), "x")
    against = tuple(runs / name for name in ("maml", "rival", "five"))
    found = evaluated(runs / "sinusoid", against=against, inner_lr="own")
    label = "runs/maml"
    assert set(found.others) == {label, "rival", "five"}
    assert np.array_equal(found.others[label].values, found.outcome.values)
    assert not np.array_equal(found.others["rival"].values, found.outcome.values)
    assert np.array_equal(found.others["rival"].values, numbers(runs / "rival")[1])
    lines = list(csv.DictReader((runs / "sinusoid" / "evaluation" / "adaptation.csv").open()))
    counts = {name: sum(line["learner"] == name for line in lines) for name in ("maml", label)}
    assert counts == {"maml": 21, label: 21}


def test_runs_that_cannot_be_compared_are_refused(runs):
    reinforced = runs / "reinforced"
    reinforced.mkdir()
    (reinforced / "config.yaml").write_text(dump(preset("point-goal")))
    said = {
        "reinforced": "reinforced learned from reinforcement, 'point-goal'; compare runs of the",
        "digits": "digits learned with env.name digits, this run with sinusoid; compare runs of",
        "nothing": "is no run: it has no config.yaml",
    }
    for name, words in said.items():
        with pytest.raises(UserError) as caught:
            evaluate(options_of(runs / "sinusoid", against=(runs / name,)))
        assert words in str(caught.value)
    with pytest.raises(UserError, match="names a run twice"):
        evaluate(options_of(runs / "sinusoid", against=(runs / "rival", runs / "rival")))
    ours, theirs = run_config(runs / "sinusoid"), run_config(reinforced)
    with pytest.raises(UserError, match="X learned supervised tasks, 'sinusoid'; compare runs of"):
        check_same_tasks("X", ours, theirs)
    assert not (runs / "sinusoid" / "evaluation" / "adaptation.json").exists()


def test_the_best_checkpoint_may_be_taken(tmp_path):
    """A run that gets worse and worse has its best checkpoint first."""
    config = config_of("sinusoid", tmp_path, iterations=4)
    meta_train(replace(config, agent=replace(config.agent, outer=AdamConfig(lr=3.0))), "x")
    found = evaluated(tmp_path, checkpoint="best")
    assert found.made_from["iteration"] == 1
    (_, best), (_, latest) = (numbers(tmp_path, checkpoint=which) for which in ("best", "latest"))
    assert np.array_equal(found.outcome.values, best)
    assert not np.array_equal(best, latest)


def test_a_learner_that_diverges_is_shown_as_not_finite(tmp_path, capfd, recwarn):
    config = config_of("sinusoid", tmp_path)
    meta_train(config, "x")
    inner = replace(config.agent.inner, lr=1e30)
    (tmp_path / "config.yaml").write_text(
        dump(replace(config, agent=replace(config.agent, inner=inner)))
    )
    found = evaluated(tmp_path)
    assert np.isfinite(found.outcome.values[:, 0]).all()
    assert "not finite" in capfd.readouterr().out
    assert not [str(warning.message) for warning in recwarn]


def test_a_run_without_weights_says_how_to_get_them(runs):
    shutil.rmtree(runs / "sinusoid" / "checkpoints")
    with pytest.raises(UserError, match=r"no checkpoint yet\n`.*`.*\nif the run was moved"):
        evaluate(options_of(runs / "sinusoid"))


def test_a_picture_shows_each_task_with_its_own_examples(runs):
    """The truth goes through them, and predictions are those after each shown step."""
    config = config_of("sinusoid", runs / "sinusoid")
    known, options = families.build(config.env), options_of(runs / "sinusoid")
    assert isinstance(known, Curves)
    held = HeldOutExamples(known, config, replace(options, steps=3), CPU)
    learner = catalogue.build(known.spec, config.agent, np.random.default_rng(0), CPU)
    panels, steps = held._predictions(learner, known)
    assert steps == [0, 1, 3]
    assert len(panels) == examples.SHOWN
    support = held.parts[0][0]
    for i, panel in enumerate(panels):
        truth = np.interp(panel.support_x, panel.xs, panel.truth)
        np.testing.assert_allclose(truth, panel.support_y, atol=0.01)
        state, inputs = learner.begin(), torch.from_numpy(panel.xs)[None, :, None]
        own = Examples(*(x[i : i + 1] for x in support))
        for step in range(4):
            if step in steps:
                expected = learner.predict(state, inputs)[0, :, 0].numpy()
                np.testing.assert_allclose(
                    panel.predictions[steps.index(step)], expected, atol=1e-4
                )
            state = learner.adapt(state, own)
    for last, shown in ((0, [0]), (1, [0, 1])):
        fewer = HeldOutExamples(known, config, replace(options, steps=last), CPU)
        assert fewer._predictions(learner, known)[1] == shown


def test_from_a_shell_to_a_report(tmp_path):
    """As the README has it: train, evaluate, report; each in a process of its own."""
    run = tmp_path / "X"
    line = f"metarl.train sinusoid-maml --iterations 2 --sampling.updates 3 --run-dir {run}"
    lines = (line, f"metarl.evaluate {run} --tasks 60 --controls random", f"metarl.report {run}")
    said = []
    for line in lines:
        process = door(*line.split())
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
        assert "warning" not in out.lower()
        said.append(out)
    assert f"next: metarl evaluate {run}" in said[0]
    assert "random initialisation (control)" in said[1]
    assert said[2].strip() == str(run / "report.html")
    for name in ("adaptation.json", "adaptation.csv", "adaptation.png", "predictions.png"):
        assert (run / "evaluation" / name).stat().st_size > 1000
    assert "mean-squared error" in (run / "report.html").read_text()


def test_defaults_are_the_runs_own(trained):
    runs, config = trained, config_of("sinusoid", trained / "sinusoid")
    read, _ = evaluate_door.read([str(runs / "sinusoid")])
    assert isinstance(read, EvaluateFewShotOptions)
    assert (read.tasks, read.steps) == (config.evaluation.tasks, config.evaluation.steps)
    line = "--tasks 5 --steps 2 --shots 3 --controls random --split train --checkpoint best"
    read, _ = evaluate_door.read([str(runs / "sinusoid"), *line.split(), "--against", "a", "b"])
    assert isinstance(read, EvaluateFewShotOptions)
    assert (read.tasks, read.steps, read.shots, read.seed) == (5, 2, 3, 1)
    assert (read.controls, read.split, read.checkpoint) == (("random",), "train", "best")
    assert read.against == (Path("a"), Path("b"))
    with pytest.raises(UserError, match=r"--episodes is no flag"):
        evaluate_door.read([str(runs / "sinusoid"), "--episodes", "3"])
    read, _ = evaluate_door.read([str(runs / "sinusoid"), "--env", "polynomial:2"])
    assert (read.env.name, read.tasks) == ("polynomial:2", config.evaluation.tasks)
    assert report.read([str(runs / "sinusoid")]) == ([runs / "sinusoid"], "")
    assert train.read(["--config", str(runs / "sinusoid" / "config.yaml")])[0] == config
