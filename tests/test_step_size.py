"""Inner step sizes of an evaluation: given ones, and a control's, chosen on training tasks."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metarl.agents import catalogue as agents
from metarl.commands.evaluate import read
from metarl.config.options import EvaluateOptions
from metarl.config.settings import Config
from metarl.envs import catalogue as envs
from metarl.errors import UserError
from metarl.experiments.assembly import run_config, with_agent
from metarl.experiments.presets import preset
from metarl.loop import step_size, training
from metarl.loop.evaluation import evaluate
from metarl.loop.learners import RANDOM
from metarl.runs.adaptation import Adaptation, read_json


def config_of(agent: str, run_dir: Path) -> Config:
    config = with_agent(preset("point-goal"), agent)
    assert isinstance(config, Config)
    return replace(
        config,
        iterations=2,
        sampling=replace(config.sampling, tasks=4, episodes=4),
        env=replace(config.env, horizon=20),
        workers=0,
        device="cpu",
        run_dir=str(run_dir),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for agent in ("joint-trpo", "maml-trpo", "meta-sgd-trpo", "rl2"):
        training.train(config_of(agent, folder / agent), "x")
    return folder


@pytest.fixture
def runs(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def options_of(run_dir: Path, **changes) -> EvaluateOptions:
    usual = {"tasks": 6, "steps": 2, "episodes": 4, "device": "cpu", "workers": 0}
    return EvaluateOptions(**{"run_dir": run_dir, **usual, **changes})


def evaluated(options: EvaluateOptions) -> Adaptation:
    return read_json(evaluate(options).with_name("adaptation.json"))


def test_a_controls_step_size_is_the_best_on_training_tasks(runs):
    """The figures of the search are those of evaluations with that size on those tasks."""
    options = options_of(runs / "joint-trpo")
    config = run_config(options.run_dir)
    tasks = envs.configured(config.env)
    found = evaluated(options)
    chosen = found.made_from["inner_lr"]["joint-trpo"]
    tried = {float(lr): mean for lr, mean in chosen["tried"].items()}
    assert list(tried) == pytest.approx([0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0])
    asked = step_size.training_tasks(options, config.agent, tasks)
    assert isinstance(asked, EvaluateOptions)
    assert asked.split == "train"
    assert asked.seed != options.seed
    for lr in (0.1, 2.5):
        apart = evaluated(replace(asked, inner_lr=lr))
        assert apart.outcome.values[:, 1:].mean() == pytest.approx(tried[lr])
    assert chosen["lr"] == max(tried, key=lambda lr: tried[lr])
    given = evaluated(replace(options, inner_lr=chosen["lr"]))
    assert np.array_equal(given.outcome.values, found.outcome.values)
    assert given.made_from["inner_lr"] == {"joint-trpo": {"lr": chosen["lr"]}}


def test_who_is_searched_for(runs):
    """Controls are, wherever they stand; an agent that was trained through its steps is not."""
    options = options_of(
        runs / "maml-trpo", controls=("random",), against=(runs / "joint-trpo", runs / "rl2")
    )
    sizes = evaluated(options).made_from["inner_lr"]
    assert set(sizes) == {"maml-trpo", RANDOM, "joint-trpo"}
    assert sizes["maml-trpo"] == {"lr": 0.5}
    assert all(len(sizes[name]["tried"]) == 7 for name in (RANDOM, "joint-trpo"))
    own = evaluated(replace(options, inner_lr="own")).made_from["inner_lr"]
    assert own == {name: {"lr": 0.5} for name in ("maml-trpo", RANDOM, "joint-trpo")}
    given = evaluated(replace(options, inner_lr=0.25)).made_from["inner_lr"]
    assert given == {**sizes, "maml-trpo": {"lr": 0.25}}


def test_a_search_for_everyone(runs):
    """Agents that were trained through their steps too; those without a size have none."""
    options = options_of(
        runs / "maml-trpo",
        against=tuple(runs / name for name in ("joint-trpo", "rl2", "meta-sgd-trpo")),
        inner_lr="search",
    )
    sizes = evaluated(options).made_from["inner_lr"]
    assert set(sizes) == {"maml-trpo", "joint-trpo"}
    tried = {float(lr): mean for lr, mean in sizes["maml-trpo"]["tried"].items()}
    assert len(tried) == 7
    assert sizes["maml-trpo"]["lr"] == max(tried, key=lambda lr: tried[lr])


def test_untrained_meta_sgd_is_searched_for(runs):
    """Its sizes are learned from `inner.lr` on, so untrained ones are `inner.lr`."""
    sizes = evaluated(options_of(runs / "meta-sgd-trpo", controls=("random",))).made_from[
        "inner_lr"
    ]
    assert set(sizes) == {RANDOM}
    assert len(sizes[RANDOM]["tried"]) == 7


def test_no_step_no_search(runs, capfd):
    found = evaluated(options_of(runs / "joint-trpo", steps=0))
    assert "step size" not in capfd.readouterr().out
    assert found.made_from["inner_lr"] == {"joint-trpo": {"lr": 0.5}}


def test_a_size_that_diverges_is_not_chosen(runs, monkeypatch, capfd):
    """Neither is it an end of the evaluation, unless every size diverges. One at the grid's end is
    told."""
    options = options_of(runs / "joint-trpo")
    monkeypatch.setattr(step_size, "FACTORS", (1e38, 0.1))
    chosen = evaluated(options).made_from["inner_lr"]["joint-trpo"]
    assert chosen["lr"] == pytest.approx(0.05)
    assert chosen["tried"]["5e+37"] is None
    assert (
        "step size 0.05, the best of 2, the smallest, on 6 training tasks" in capfd.readouterr().out
    )
    monkeypatch.setattr(step_size, "FACTORS", (1e38, 5e37))
    with pytest.raises(UserError, match=r"joint-trpo diverged .* 5e\+37, 2.5e\+37\n.*--inner-lr"):
        evaluate(options)


def test_a_control_adapts_by_the_size_that_was_found(runs, monkeypatch):
    """Not by its own, 0.5."""
    options = options_of(runs / "joint-trpo", controls=("random",))
    monkeypatch.setattr(step_size, "FACTORS", (0.1,))
    found = evaluated(options)
    own, given = (evaluated(replace(options, inner_lr=lr)) for lr in ("own", 0.05))
    assert np.array_equal(found.outcome.values, given.outcome.values)
    assert not np.array_equal(found.outcome.values[:, 1], own.outcome.values[:, 1])
    untrained, before = (x.controls[RANDOM].values for x in (found, own))
    assert np.array_equal(untrained[:, 0], before[:, 0])
    assert not np.array_equal(untrained[:, 1], before[:, 1])


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        ("meta-sgd-trpo", "'meta-sgd-trpo' has learned its step sizes"),
        ("rl2", "'rl2' adapts without a step size"),
    ],
)
def test_a_size_that_would_change_nothing_is_refused(runs, agent, reason):
    with pytest.raises(UserError, match=f"--inner-lr 0.2: agent {reason}"):
        evaluate(options_of(runs / agent, inner_lr=0.2))
    with pytest.raises(UserError, match=f"--inner-lr search: agent {reason}"):
        evaluate(options_of(runs / agent, inner_lr="search"))


@pytest.mark.parametrize("line", ["0", "-0.1", "nan", "fast"])
def test_sizes_that_are_none_are_refused(runs, line):
    with pytest.raises(UserError, match=r"inner.lr"):
        read([str(runs / "joint-trpo"), "--inner-lr", line])


def test_a_search_on_classes_has_some_goals_of_each():
    options = options_of(Path("x"), tasks=40, mode_episodes=3)
    agent = preset("ml10-maml-trpo").agent

    class Ten:
        """Ten classes."""

        def spread(self, split: str) -> int:
            return 10

        def held_out(self, goals: int, split: str = "test") -> list: ...

    asked = step_size.training_tasks(options, agent, Ten())
    assert (asked.tasks, asked.split) == (4, "train")
    assert isinstance(asked, EvaluateOptions)
    assert asked.mode_episodes == 0


def test_the_catalogues_controls():
    """Agents that learn nothing, or that are trained without inner steps."""
    controls = {
        name for name in agents.names("episodes") if agents.is_control(agents.default(name))
    }
    assert controls == {
        "joint-trpo", "joint-ppo", "joint-vpg", "oracle-trpo", "random", "sb3-ppo",
    }  # fmt: skip
    few_shot = {
        name
        for name in agents.names("examples")
        if agents.is_control(agents.default(name, "examples"))
    }
    assert few_shot == {"from-scratch"}
