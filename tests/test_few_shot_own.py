"""Supervised tasks of a user's own: named on the command line, and looked at when they draw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.agents import catalogue
from metarl.config.options import EvaluateFewShotOptions
from metarl.config.settings import (
    FewShotConfig,
    FewShotEnvConfig,
    FewShotSamplingConfig,
    NetworkConfig,
)
from metarl.envs.supervised import families
from metarl.errors import UserError
from metarl.experiments.assembly import base_of, load_config, with_agent, with_env
from metarl.experiments.presets import preset
from metarl.loop.evaluation import evaluate
from metarl.loop.training import train
from metarl.types import Examples, FewShotSpec

OWN = "some_module:doubling"


class Doubling:
    """y = a x. What it draws is changed by `spoil`."""

    spec = FewShotSpec("doubling", (1,), 1, classes=False)

    def __init__(self, spoil=lambda examples: examples):
        self.spoil = spoil

    def sample(self, num_tasks, rng, split="train"):
        return [{"slope": float(a)} for a in rng.uniform(1, 2, num_tasks)]

    def draw(self, tasks, shots, queries, rng):
        def some(count):
            x = rng.normal(size=(len(tasks), count, 1)).astype(np.float32)
            slopes = np.array([task["slope"] for task in tasks], np.float32)
            return Examples(torch.from_numpy(x), torch.from_numpy(slopes[:, None, None] * x))

        return self.spoil(some(shots)), self.spoil(some(queries))

    def describe(self, task):
        return f"{task['slope']:.2f} x"

    def curve(self, task, xs):
        """Without an interval to draw it over."""
        return task["slope"] * xs


class Labelled(Doubling):
    """Two classes, by the sign of the input."""

    spec = FewShotSpec("labelled", (1,), 2, classes=True)

    def draw(self, tasks, shots, queries, rng):
        drawn = Doubling().draw(tasks, shots, queries, rng)
        return tuple(self.spoil(Examples(x, (x[..., 0] > 0).long())) for x, _ in drawn)


def small(folder, env=OWN):
    return FewShotConfig(
        env=FewShotEnvConfig(env, shots=3, queries=3),
        sampling=FewShotSamplingConfig(tasks=3, updates=2),
        agent=replace(catalogue.default("maml", "examples"), network=NetworkConfig(hidden=(4,))),
        iterations=2,
        run_dir=str(folder),
    )


def test_they_are_trained_on_and_evaluated(tmp_path):
    run = train(small(tmp_path / "run"), "x", Doubling())
    evaluate(EvaluateFewShotOptions(run_dir=run, tasks=4, steps=1), Doubling())
    assert (run / "evaluation" / "adaptation.json").exists()
    assert (run / "report.html").exists()
    assert not (run / "evaluation" / "predictions.png").exists()


@pytest.mark.parametrize(
    ("tasks", "spoil", "said"),
    [
        (Doubling, lambda e: e._replace(targets=e.targets[..., 0]), r"targets of shape \(3, 3\)"),
        (Doubling, lambda e: e._replace(inputs=e.inputs[:2]), r"inputs of shape \(2, 3, 1\)"),
        (Doubling, lambda e: e._replace(inputs=e.inputs.double()), r"inputs of torch.float64"),
        (Doubling, lambda e: Examples(*(x.numpy() for x in e)), r"inputs of ndarray"),
        (Doubling, lambda e: Examples(*(x[:, :0] for x in e)), r"shape \(3, 0, 1\)"),
        (Labelled, lambda e: e._replace(targets=e.targets + 1), r"the class 2; they are 0 to 1"),
        (Labelled, lambda e: e._replace(targets=e.targets.int()), r"targets of torch.int32"),
    ],
)
def test_what_they_draw_is_looked_at(tmp_path, tasks, spoil, said):
    """Broadcast with [K, N, 1], targets [K, N] would be another loss, and no error."""
    with pytest.raises(UserError, match=said):
        train(small(tmp_path / "bad"), "x", tasks(spoil))
    run = train(small(tmp_path / "good"), "x", tasks())
    with pytest.raises(UserError, match=said.replace("3, 3", "4, 3").replace("(3, 0", "(4, 0")):
        evaluate(
            EvaluateFewShotOptions(run_dir=run, tasks=4 if "2, 3" not in said else 3), tasks(spoil)
        )


def test_a_config_names_the_tasks_given(tmp_path):
    """Else an evaluation would take others, and say nothing."""
    with pytest.raises(UserError, match=r"config.env is 'sinusoid', and the tasks given are doub"):
        train(small(tmp_path, "sinusoid"), "x", Doubling())
    assert not tmp_path.joinpath("config.yaml").exists()


def test_code_is_run_only_where_it_is_named():
    env = FewShotEnvConfig(OWN)
    with pytest.raises(UserError, match=f"add --env {OWN}"):
        families.own(env, None)


def test_settings_that_own_tasks_do_not_heed_are_refused(tmp_path, monkeypatch):
    (tmp_path / "own_doubling.py").write_text(
        "import numpy as np, metarl\n"
        "tasks = metarl.episodes_from_arrays(np.arange(40.0, dtype=np.float32)[:, None],"
        " np.repeat(np.arange(10), 4), ways=2)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    name = "own_doubling:tasks"
    env = FewShotEnvConfig(name, shots=1, queries=1)
    assert families.own(env, name).spec.outputs == 2
    with pytest.raises(UserError, match=r"env.ways is 3, and 'own_doubling:tasks' has no use"):
        families.own(replace(env, ways=3), name)
    with pytest.raises(UserError, match="has 4 examples, and a task takes 7"):
        families.own(replace(env, shots=3, queries=4), name)
    config = with_env(preset("digits-maml"), name)
    assert isinstance(config, FewShotConfig)
    assert config.env == FewShotEnvConfig(
        name, shots=5, queries=15
    )  # no turns, which are not theirs


def test_a_file_says_what_kind_of_run_it_is_of(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("agent: {name: protonet}\n")
    assert isinstance(base_of(file), FewShotConfig)
    file.write_text("agent: {name: lomaml}\n")  # episodes list it as lomaml-trpo
    assert isinstance(base_of(file, "sinusoid"), FewShotConfig)
    assert isinstance(base_of(file), FewShotConfig)
    assert not isinstance(base_of(file, "point-goal"), FewShotConfig)
    file.write_text("env: {name: polynomial}\n")
    assert load_config(file).env.name == "polynomial:2"


def test_another_learner_needs_a_preset_that_trains():
    with pytest.raises(UserError, match="preset without training"):
        with_agent(preset("digits-from-scratch"), "maml")
