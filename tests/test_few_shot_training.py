"""Whole runs on supervised tasks through the door: resuming, killing, refusing, learning."""

from __future__ import annotations

import re
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from whole_runs import door, instead, kill, rows, wait_for, weights

from metarl import keys
from metarl.agents import catalogue
from metarl.commands import evaluate, train
from metarl.config.files import dump
from metarl.config.settings import FewShotConfig, FewShotEnvConfig, FewShotSamplingConfig
from metarl.envs.splits import held_out
from metarl.envs.supervised import families
from metarl.envs.supervised.regression import Sinusoid
from metarl.equations.few_shot import accuracy, cross_entropy
from metarl.errors import UserError
from metarl.experiments.presets import preset
from metarl.loop.training import train as meta_train
from metarl.runs import checkpoint
from metarl.runs.adaptation import read_json
from metarl.sources.examples import adaptation

CPU = torch.device("cpu")
SMALL = [
    "--sampling.tasks", "4", "--sampling.updates", "3", "--env.shots", "3", "--env.queries", "4",
    "--agent.network.hidden", "8", "--checkpoint-every", "2", "--device", "cpu",
]  # fmt: skip


def small(run_dir: Path, iterations: int = 4, name: str = "sinusoid-maml") -> FewShotConfig:
    config = preset(name)
    assert isinstance(config, FewShotConfig)
    return replace(
        config,
        env=replace(config.env, shots=3, queries=4),
        sampling=FewShotSamplingConfig(tasks=4, updates=3),
        agent=replace(config.agent, network=replace(config.agent.network, hidden=(8,))),
        iterations=iterations,
        checkpoint_every=2,
        device="cpu",
        run_dir=str(run_dir),
    )


def diverging(config: FewShotConfig) -> FewShotConfig:
    """With inner steps that nothing survives."""
    inner = replace(config.agent.inner, lr=1e30)
    return replace(config, agent=replace(config.agent, inner=inner))


NAMES = ("sinusoid-lomaml", "sinusoid-reptile", "digits-maml", "digits-protonet")


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, name):
    """Weights and metrics bit for bit."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    meta_train(small(whole, name=name), "x")
    meta_train(small(parts, 3, name=name), "x")
    meta_train(small(parts, name=name), "x")
    assert rows(whole) == rows(parts)
    assert weights(whole, 4) == weights(parts, 4)
    assert len(rows(whole)) == 4
    meta_train(small(parts, name=name), "x")  # done already: changes nothing
    assert len(rows(parts)) == 4


@pytest.mark.parametrize("name", ["sinusoid-maml", "digits-protonet"])
def test_a_row_is_the_mean_over_the_updates(tmp_path, name):
    """Drawn, looked at and learned from anew, one update after another."""
    config = replace(small(tmp_path, 2, name), sampling=FewShotSamplingConfig(tasks=4, updates=13))
    meta_train(config, "x")
    known = families.build(config.env)
    rng = keys.generator(config.seed, keys.Purpose.INIT)
    learner = catalogue.build(known.spec, config.agent, rng, CPU)
    for iteration, row in enumerate(rows(tmp_path)):
        losses, hits, norms = [], [], []
        for update in range(13):
            rng = keys.generator(config.seed, keys.Purpose.TASKS, iteration, update)
            support, query = known.draw(known.sample(4, rng), 3, 4, rng)
            state = learner.adapt(learner.begin(), support)
            if update >= 3:  # the last ten are looked at
                logits = [learner.predict(x, query.inputs) for x in (learner.begin(), state)]
                measures = (cross_entropy, accuracy)
                if not known.spec.classes:
                    measures = (lambda x, y: (x - y).square().mean((1, 2)), accuracy)
                losses.append([float(measures[0](x, query.targets).mean()) for x in logits])
                if known.spec.classes:
                    hits.append([float(accuracy(x, query.targets).mean()) for x in logits])
            norms.append(learner.meta_update(state, query, rng)["gradient_norm"])
        assert row["gradient_norm"] == pytest.approx(np.mean(norms))
        assert [row["loss/step0"], row["loss/step1"]] == pytest.approx(np.mean(losses, axis=0))
        if hits:
            found = [row["accuracy/step0"], row["accuracy/step1"]]
            assert found == pytest.approx(np.mean(hits, axis=0))
            assert row["accuracy/step0"] == pytest.approx(0.2)
        assert (row["iteration"], row["tasks"]) == (iteration + 1, (iteration + 1) * 13 * 4)
        assert row["skipped"] == 0.0
    saved = load_file(tmp_path / "checkpoints" / "000002" / "agent.safetensors")
    for x, value in learner.state_dict().items():
        torch.testing.assert_close(saved[x], value)


def test_a_killed_run_goes_on_as_if_nothing_happened(tmp_path, monkeypatch):
    """kill -9 at some moment, the same command again, equal weights at the end."""
    command = ["sinusoid-lomaml", *SMALL, "--iterations", "120", "--run-dir"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = door("metarl.train", *command, str(killed))
    wait_for(process, killed, 40)
    time.sleep(np.random.default_rng(time.time_ns()).uniform(0.0, 0.05))
    kill(process)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in the process
    train.main([*command, str(killed)])
    train.main([*command, str(whole)])
    assert weights(whole, 120) == weights(killed, 120)
    assert rows(whole) == rows(killed)


def test_a_stopped_run_keeps_every_complete_iteration(tmp_path):
    """Ctrl-C: exit 130, a line on how to go on, a checkpoint."""
    command = ["metarl.train", "sinusoid-maml", *SMALL, "--iterations", "100000"]
    command = instead(command, "--checkpoint-every", "90000", "--run-dir", str(tmp_path))
    process = door(*command)
    wait_for(process, tmp_path, 3)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command again continues" in said
    assert "Traceback" not in said
    kept = checkpoint.load_latest(tmp_path / "checkpoints")
    assert kept is not None
    assert kept.iteration >= len(rows(tmp_path)) - 1 >= 2


def test_other_settings_are_refused_by_key(tmp_path):
    meta_train(small(tmp_path, 2), "x")
    other = small(tmp_path, 2)
    said = r"seed 1 \(asked for: 2\), env\.shots 3 \(asked for: 4\)"
    with pytest.raises(UserError, match=said):
        meta_train(replace(other, seed=2, env=replace(other.env, shots=4)), "x")
    with pytest.raises(UserError, match=r"agent\.name maml \(asked for: anil\)"):
        train.main(["sinusoid-maml", "--agent", "anil", *SMALL, "--run-dir", str(tmp_path)])
    with pytest.raises(UserError, match="holds a run with other settings"):
        train.main(["point-goal", "--run-dir", str(tmp_path)])


def test_a_runs_own_config_continues_it(tmp_path):
    """Without a preset; and so does one of a part of the settings over the defaults."""
    config = small(tmp_path / "run", 2, "digits-gbml")
    meta_train(config, "x")
    stored = tmp_path / "run" / "config.yaml"
    assert train.read(["--config", str(stored)])[0] == config
    train.main(["--config", str(stored), "--iterations", "3"])
    assert len(rows(tmp_path / "run")) == 3
    part = tmp_path / "part.yaml"
    part.write_text("env: {name: digits}\nagent: {name: protonet, inner: {embedding: 7}}")
    read, _ = train.read(["--config", str(part)])
    assert isinstance(read, FewShotConfig)
    assert dump(read.agent.inner) == "embedding: 7\n"


class Recorded(Sinusoid):
    """Says which tasks were met, and has targets without bound in the draws asked for."""

    def __init__(self, *spoilt: int):
        super().__init__(FewShotEnvConfig("sinusoid"), "")
        self.met, self.spoilt, self.draws = [], spoilt, 0

    def sample(self, num_tasks, rng, split="train"):
        tasks = super().sample(num_tasks, rng, split)
        self.met += tasks
        return tasks

    def draw(self, tasks, shots, queries, rng):
        support, query = super().draw(tasks, shots, queries, rng)
        if self.draws in self.spoilt:
            query.targets[0, 0] = torch.inf
        self.draws += 1
        return support, query


def test_training_meets_no_held_out_task(tmp_path):
    tasks = Recorded()
    meta_train(small(tmp_path), "x", tasks)
    amplitudes = np.array([task["amplitude"] for task in tasks.met])
    assert len(amplitudes) == 4 * 3 * 4
    assert not held_out((amplitudes - 0.1) / 4.9).any()


@pytest.mark.parametrize(
    ("name", "key"), [("sinusoid-maml", "gradient_norm"), ("sinusoid-reptile", "reptile/distance")]
)
def test_a_part_of_every_iteration_may_be_lost(tmp_path, name, key, capfd):
    """The first of three updates: the others count, and the run goes on."""
    meta_train(small(tmp_path, 6, name), "x", Recorded(*range(0, 18, 3)))
    found = rows(tmp_path)
    assert [row["skipped"] for row in found] == pytest.approx([1 / 3] * 6)
    assert all(np.isfinite(row[key]) for row in found)
    assert "33.3% of iteration 2 skipped" in capfd.readouterr().out
    saved = load_file(tmp_path / "checkpoints" / "000006" / "agent.safetensors")
    assert all(bool(x.isfinite().all()) for x in saved.values())


@pytest.mark.parametrize("name", ["sinusoid-maml", "sinusoid-reptile"])
def test_five_iterations_without_a_finite_update_end_the_run(tmp_path, name):
    """With a checkpoint of what was there before, and the flags that this run has."""
    config = diverging(small(tmp_path, 20, name))
    said = r"iteration 5: 5 updates in a row.*\n.*\(--agent\.inner\.lr, --agent\.outer\.lr\)"
    with pytest.raises(UserError, match=said) as caught:
        meta_train(config, "x")
    assert "normalisation" not in str(caught.value)
    assert [row["skipped"] for row in rows(tmp_path)] == [1.0] * 5
    saved = load_file(tmp_path / "checkpoints" / "000005" / "agent.safetensors")
    assert all(bool(x.isfinite().all()) for x in saved.values())
    with pytest.raises(UserError, match="6 updates in a row"):
        meta_train(config, "x")
    assert len(rows(tmp_path)) == 6


REFUSED = {
    "sinusoid-maml --agent protonet": "prototypes tell classes apart, and targets of sinusoid",
    "digits-protonet --env sinusoid": "prototypes tell classes apart, and targets of sinusoid",
    "sinusoid-maml --agent.network.kind conv": "an input of sinusoid has the shape (1,), no image",
    "digits-maml --agent.network.kind mlp": "or --agent.network.no-batch-norm",
    "sinusoid-maml --agent.network.batch-norm": "an mlp has no channels to normalise",
    "sinusoid-maml --agent.inner.estimator dice": "makes no use of agent.inner.estimator",
    "sinusoid-mapping --agent.inner.steps 2": "makes no use of agent.inner.steps",
    "sinusoid-maml --env.ways 3": "env.ways is 3, and 'sinusoid' has no use for it; leave it out",
    "digits-maml --env.ways 21": "the train split has 20 classes, and a task takes 21; lower",
    "digits-maml --env.shots 170": "has 174 examples, and a task takes 185 of each",
    "digits-maml --env images": "say where, --env.path PATH",
    "digits-maml --env images --env.path nowhere": "there is no folder nowhere/train",
    "digits-maml --env arrays --env.path no.npz": "there is no file no.npz; set env.path to",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_learned_is_said_before_training(tmp_path, line):
    with pytest.raises(UserError) as caught:
        train.main([*line.split(), "--run-dir", str(tmp_path / "run"), "--device", "cpu"])
    assert REFUSED[line] in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_arrays_of_a_users_own_from_a_file(tmp_path):
    """Classes differ in three numbers, beside twelve that say nothing and vary more. What tells
    classes apart that were never seen has learned to look away from those."""
    rng = np.random.default_rng(0)
    labels = np.arange(40).repeat(20)
    told = rng.normal(size=(40, 3))[labels] + 0.1 * rng.normal(size=(800, 3))
    inputs = np.concatenate([told, 1.5 * rng.normal(size=(800, 12))], axis=1)
    np.savez(tmp_path / "mine.npz", inputs=inputs, labels=labels)
    config, _ = train.read(
        f"digits-protonet --env arrays --env.path {tmp_path}/mine.npz --iterations 1 "
        "--sampling.updates 80 --agent.network.kind mlp --agent.network.hidden 40 "
        f"--agent.outer.lr 0.003 --device cpu --run-dir {tmp_path}/run".split()
    )
    assert isinstance(config, FewShotConfig)
    assert (config.env.name, config.env.rotations) == ("arrays", "none")
    meta_train(config, "x")
    (chance, after), (_, untrained) = held_out_curves(config)
    assert chance == pytest.approx(0.2)
    assert after > 0.9 > 0.5 > untrained


def test_tasks_of_a_users_own_by_the_place_of_their_code(tmp_path, monkeypatch):
    """The documentation's example, by its own commands; the code is run where it is named alone."""
    text = (Path(__file__).parents[1] / "docs" / "few_shot.md").read_text()
    code = re.search(r"```python\n# my_episodes\.py\n(.*?)```", text, re.DOTALL)
    asked = re.search(r"metarl train (.*my_episodes:tasks(?:.*\\\n)?.*)", text)
    assert code is not None
    assert asked is not None
    (tmp_path / "my_episodes.py").write_text(code[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    run = tmp_path / "run"
    line = asked[1].replace("\\\n", " ").split()
    line = instead(line, "--device", "cpu", "--run-dir", str(run))
    named = ["--env", "my_episodes:tasks"]
    config, _ = train.read(line)
    (tmp_path / "mine.yaml").write_text(dump(config))
    with pytest.raises(UserError, match="add --env my_episodes:tasks"):
        train.main(["--config", str(tmp_path / "mine.yaml")])
    assert "my_episodes" not in sys.modules
    train.main(line)
    assert rows(run)[-1]["accuracy/step1"] > 0.9
    train.main(["--config", str(run / "config.yaml"), *named])
    with pytest.raises(UserError, match="add --env my_episodes:tasks"):
        evaluate.main([str(run), "--tasks", "20"])
    evaluate.main([str(run), "--tasks", "20", *named])
    assert read_json(run / "evaluation" / "adaptation.json").outcome.values[:, 1].mean() > 0.9
    with pytest.raises(UserError, match="supervised tasks; begin with a preset of theirs"):
        train.main(["point-goal", *named, "--run-dir", str(tmp_path / "other")])
    with pytest.raises(UserError, match="no supervised tasks but GymTasks: they have spec, sample"):
        train.main(["digits-maml", "--env", "strange_envs:walk", "--run-dir", str(run)])


def test_cuda_where_there_is_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda"):
        meta_train(replace(small(tmp_path), device="cuda"), "x")


def held_out_curves(config: FewShotConfig) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss or accuracy by step on 200 held-out tasks, of what was learned and untrained."""
    known = families.build(config.env)
    rng = keys.generator(1, keys.Purpose.EVALUATION)
    tasks = known.sample(200, rng, "test")
    support, query = known.draw(tasks, config.env.shots, config.env.queries, rng)
    found = checkpoint.load_latest(Path(config.run_dir) / "checkpoints")
    assert found is not None
    curves = []
    for state in (found.tensors, None):
        learner = catalogue.build(known.spec, config.agent, np.random.default_rng(3), CPU)
        if state is not None:
            learner.load_state_dict(state)
        curve = adaptation(learner, known.spec, support, query, 1)
        curves.append(curve[-1].mean(-1).numpy())
    return curves[0], curves[1]


def test_maml_learns_to_learn_sinusoids(tmp_path):
    """300 updates: one step leaves less than four tenths of the error that it leaves untrained,
    and of that before the step."""
    config = preset("sinusoid-maml")
    assert isinstance(config, FewShotConfig)
    config = replace(
        config,
        agent=replace(config.agent, outer=replace(config.agent.outer, lr=5e-3)),
        sampling=FewShotSamplingConfig(tasks=25, updates=60),
        iterations=5,
        device="cpu",
        run_dir=str(tmp_path),
    )
    meta_train(config, "x")
    (before, after), (_, untrained) = held_out_curves(config)
    assert after < 0.4 * min(before, untrained)


def test_prototypes_tell_unseen_digits_apart(tmp_path):
    """Chance is a fifth."""
    config = small(tmp_path, 3, "digits-protonet")
    network = replace(config.agent.network, kind="conv", hidden=(16, 16))
    config = replace(
        config,
        env=replace(config.env, shots=5, queries=15),
        agent=replace(config.agent, network=network),
        sampling=FewShotSamplingConfig(tasks=8, updates=10),
    )
    meta_train(config, "x")
    (chance, after), _ = held_out_curves(config)
    assert chance == pytest.approx(0.2)
    assert after > 0.75
