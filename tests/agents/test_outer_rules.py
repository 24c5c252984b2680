"""The contract of outer rules: steps are pure and finite, and a saved state continues the same."""

from __future__ import annotations

from contextlib import ExitStack
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metarl.agents import catalogue
from metarl.checking.learning import EpisodeLearner, ExampleLearner
from metarl.config.settings import FewShotEnvConfig
from metarl.envs import catalogue as envs
from metarl.envs.supervised import families

TASKS = {"episodes": envs.make("point-goal", 6), "examples": families.build(FewShotEnvConfig())}
CASES = [
    (source, name)
    for source, tested in (
        ("episodes", ("maml-trpo", "maml-ppo", "maml-vpg", "reptile-ppo", "rl2", "random")),
        ("examples", ("maml", "maml-vpg", "reptile", "from-scratch")),
    )
    for name in tested
]


class Recorded:
    """An outer rule that remembers the arguments of its last step."""

    def __init__(self, rule: Any):
        self.rule = rule

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rule, name)

    def step(self, *given: Any) -> Any:
        self.given = given[:3]
        return self.rule.step(*given)


def copied(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: x.clone() for name, x in tensors.items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("source", "name"), CASES)
def test_a_step_is_pure_and_its_state_is_saved(source, name):
    def make(spec: Any, rng: np.random.Generator, device: torch.device) -> Any:
        return catalogue.build(spec, catalogue.default(name, source), rng, device)

    with ExitStack() as stack:
        kind = EpisodeLearner if source == "episodes" else ExampleLearner
        learner = kind(make, TASKS[source], stack)
        agent = learner.agent()
        agent.outer = Recorded(agent.outer)
        for number in range(2):  # the second starts from a state that is not the first
            learner.update(agent, number)
        rule, (meta, state, objective) = agent.outer.rule, agent.outer.given

        def step(state: Any) -> tuple[Any, Any, Any]:
            return rule.step(meta, state, objective, np.random.default_rng(3))

        before, kept = copied(meta), copied(rule.state_dict(state))
        after, later, metrics = step(state)
        assert same(meta, before)
        assert same(rule.state_dict(state), kept)
        assert {name: x.shape for name, x in after.items()} == {
            name: x.shape for name, x in meta.items()
        }
        assert all(x.isfinite().all() for x in after.values())
        assert all(isinstance(x, float) for x in metrics.values())
        learns = catalogue.default(name, source).outer.learns
        assert same(after, meta) != learns or metrics.get("line_search/accepted") == 0.0

        again, later_again, _ = step(rule.load(rule.init(meta), {**kept, "other": torch.ones(1)}))
        assert same(again, after)
        assert same(rule.state_dict(later_again), rule.state_dict(later))


STEP_SIZES = [
    (source, name, outer)
    for source, name, outer in [
        *((source, name, {}) for source, name in CASES),
        ("episodes", "reptile-ppo", {"optimizer": "adam", "lr": 0.01}),
        ("examples", "reptile", {"optimizer": "adam", "lr": 0.01}),
    ]
    if hasattr(catalogue.default(name, source).outer, "lr")
]


def with_config(rule: Any, config: Any) -> Any:
    other = copy(rule)
    object.__setattr__(other, "config", config)  # some rules are frozen
    return other


@pytest.mark.parametrize(("source", "name", "outer"), STEP_SIZES)
def test_a_step_size_that_halves_is_in_the_saved_state(source, name, outer):
    """After as many updates as it takes, a step is that of half the size, also from saved state."""
    config = catalogue.default(name, source)
    config = replace(config, outer=replace(config.outer, lr_half_life=2.0, **outer))

    def make(spec: Any, rng: np.random.Generator, device: torch.device) -> Any:
        return catalogue.build(spec, config, rng, device)

    with ExitStack() as stack:
        kind = EpisodeLearner if source == "episodes" else ExampleLearner
        learner = kind(make, TASKS[source], stack)
        agent = learner.agent()
        agent.outer = Recorded(agent.outer)
        for number in range(3):
            learner.update(agent, number)
        rule, (meta, state, objective) = agent.outer.rule, agent.outer.given
        saved = copied(rule.state_dict(state))
        whole_lr = replace(rule.config, lr_half_life=0.0)
        half = with_config(rule, replace(whole_lr, lr=rule.config.lr / 2))
        whole = with_config(rule, whole_lr)
        loaded = rule.load(rule.init(meta), saved)
        cases = ((rule, state), (rule, loaded), (half, state), (whole, state))
        now, resumed, halved, unhalved = (
            one.step(meta, at, objective, np.random.default_rng(3))[0] for one, at in cases
        )
        assert same(now, resumed)
        assert same(now, halved)
        assert not same(now, unhalved)
