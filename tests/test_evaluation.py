"""Evaluation on tasks of classes: an agent of known success is found to have exactly that."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from metarl.config.options import EvaluateOptions
from metarl.config.settings import Config, MetaWorldConfig
from metarl.equations.gaussian import Gaussian
from metarl.experiments.presets import preset
from metarl.loop import evaluation
from metarl.runs.adaptation import Adaptation
from metarl.runs.class_success import class_success
from metarl.sampling.collect import memoryless
from metarl.sources import episodes
from metarl.types import EnvSpec, StepResult, Task, Trajectories, Workers

HORIZON = 6
NEEDED = {"easy": [0, 0, 1, 1], "hard": [1, 9, 9, 9]}
"""Adaptation steps after which each goal is solved."""
MODE_EPISODES, EPISODES = 3, 2


class Counted:
    """A goal is solved at step goal + 1 by a whole number of at least what it needs."""

    def __init__(self, num_tasks: int, episodes: int):
        self.shape, self.t = (num_tasks, episodes), 0

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        self.needed = np.array([[NEEDED[task["class"]][task["goal"]]] for task in tasks])
        self.goals = np.array([[task["goal"]] for task in tasks])

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        self.t = 0
        return np.zeros((*self.shape, 1), np.float32)

    def step(self, actions: np.ndarray) -> StepResult:
        self.t += 1
        exact = actions[..., 0] == np.round(actions[..., 0])
        solved = exact & (actions[..., 0] >= self.needed) & (self.t == self.goals + 1)
        never = np.zeros(self.shape, bool)
        over = np.full(self.shape, self.t == HORIZON)
        obs = np.zeros((*self.shape, 1), np.float32)
        return StepResult(obs, solved.astype(np.float32), never, over, solved)

    def close(self) -> None: ...


class TwoClasses:
    spec = EnvSpec("two", Box(-1, 1, (1,)), Box(-9, 9, (1,)), HORIZON, has_success=True)

    def sample(self, num_tasks, rng, split="train", draw="random"):
        raise AssertionError("held-out goals are not drawn")

    def held_out(self, goals: int, split: str = "test") -> list[Task]:
        assert split == "test"
        return [{"class": name, "goal": goal} for name in NEEDED for goal in range(goals)]

    def spread(self, split: str) -> int:
        return len(NEEDED)

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> Counted:
        return Counted(num_tasks, episodes_per_task)

    def describe(self, task: Task) -> str:
        return str(task)


class CountingAgent:
    """Its likeliest action is how often it adapted, which it does from noisy episodes only."""

    noise = ("normal", 1)

    def begin(self) -> int:
        return 0

    def actor(self, state: int, episodes: slice):
        def act(obs: torch.Tensor, noise: torch.Tensor):
            mean = torch.full_like(obs, float(state))
            distribution = Gaussian(mean, torch.zeros(1))
            return distribution.sample(noise), distribution

        return memoryless(act)(episodes)

    def adapt(self, state: int, support: Trajectories) -> int:
        assert support.obs.shape[2] == EPISODES
        assert not support.success.any()
        assert (support.actions != state).all()
        return state + 1


def adapted(tasks_at_once: int, monkeypatch: pytest.MonkeyPatch, **options: Any):
    monkeypatch.setattr(episodes, "CLASS_TASKS_AT_ONCE", tasks_at_once)
    asked = EvaluateOptions(
        run_dir=None,  # pyright: ignore[reportArgumentType]
        tasks=4,
        episodes=EPISODES,
        mode_episodes=MODE_EPISODES,
        device="cpu",
        **options,
    )
    agent: Any = CountingAgent()
    with ExitStack() as stack:
        held = episodes.HeldOutEpisodes.open(TwoClasses(), asked, torch.device("cpu"), stack)
        return held, held.adapt(agent, "counting")


@pytest.mark.parametrize("at_once", [1, 3, 7, 8])  # the last batch is filled up
def test_known_success_of_each_goal_is_found(at_once, monkeypatch):
    held, outcome = adapted(at_once, monkeypatch, steps=1)
    assert outcome.solved_at is not None
    for k, task in enumerate(held.tasks):
        needed, at = NEEDED[task["class"]][task["goal"]], task["goal"] + 1
        expected = [[at if step >= needed else 0] * MODE_EPISODES for step in (0, 1)]
        assert outcome.solved_at[k].tolist() == expected
    assert outcome.env_steps == (0.0, EPISODES * HORIZON)
    adaptation = Adaptation(
        "two", "counting", "test", (0, 1), (0.0, EPISODES * HORIZON), tuple(held.tasks),
        replace(outcome, env_steps=None), made_from={"horizon": HORIZON},
    )  # fmt: skip
    found = class_success(adaptation)
    assert found is not None
    rates = found.solved.classes
    assert rates["easy"].mean.tolist() == [0.5, 1.0]
    assert rates["hard"].mean.tolist() == [0.0, 0.25]
    assert found.solved.overall.mean.tolist() == [0.25, 0.625]


@pytest.mark.parametrize(
    ("change", "followed"),
    [
        ({}, True),
        ({"tasks": 20}, False),
        ({"steps": 2}, False),
        ({"episodes": 20}, False),
        ({"mode_episodes": 0}, False),
        ({"horizon": 100}, False),
        ({"metaworld": MetaWorldConfig(rewards="v1")}, False),
        ({"metaworld": MetaWorldConfig(goals_seed=2)}, True),
    ],
)
def test_the_official_count_is_of_the_official_protocol(change, followed, capsys):
    ml10 = preset("ml10-maml-trpo")
    assert isinstance(ml10, Config)
    env = replace(ml10.env, **{k: v for k, v in change.items() if k in ("horizon", "metaworld")})
    evaluated = {k: v for k, v in change.items() if k not in ("horizon", "metaworld")}
    options = EvaluateOptions(run_dir=Path(), **{**asdict(ml10.evaluation), **evaluated})
    found = evaluation._protocol(replace(ml10, env=env), options)
    assert found == {"protocol": "metaworld" if followed else None}
    assert ("left out" in capsys.readouterr().out) != followed


def test_other_tasks_have_no_protocol(capsys):
    options = EvaluateOptions(run_dir=Path(), mode_episodes=3)
    config = preset("point-goal")
    assert isinstance(config, Config)
    assert evaluation._protocol(config, options) == {"protocol": None}
    assert not capsys.readouterr().out


def test_more_steps_start_where_the_last_ended(monkeypatch):
    _, outcome = adapted(8, monkeypatch, steps=9)
    assert outcome.success is not None
    assert outcome.success.all(axis=-1).mean(axis=0)[[0, 1, 8, 9]].tolist() == [
        0.25,
        0.625,
        0.625,
        1.0,
    ]
