"""The ladder's rungs for learners of supervised tasks: the least possible loss is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import probes
import pytest
import torch
from catalogue_rows import every_rule

from metarl.agents import catalogue
from metarl.agents.inner.prototypes import PrototypesConfig
from metarl.config.settings import FewShotAgentConfig, NetworkConfig
from metarl.device import torch_threads
from metarl.types import Examples, FewShotTasks, SupervisedAgent

TASKS, SHOTS, QUERIES = 8, 20, 20
NEAR = 0.1
"""The share that may be left of the loss of who does not adapt, which is the variance of y: 1."""

NAMES = every_rule("examples")
CONFIGS = {name: catalogue.default(name, "examples") for name in NAMES}
OF_CLASSES = [name for name in NAMES if isinstance(CONFIGS[name].inner, PrototypesConfig)]
OF_NUMBERS = [name for name in NAMES if name not in OF_CLASSES]
NEVER_TRAINED = [name for name in NAMES if not CONFIGS[name].outer.learns]

INNER: dict[str, Any] = {"lr": 0.1}
OUTER: dict[str, Any] = {"lr": 0.01}
"""Settings with which rules learn fast, wherever a rule has them; a new learner has them too."""
OF_LEARNERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "reptile": ({"lr": 0.05}, {"lr": 0.5}),
    "from-scratch": ({"lr": 0.05}, {}),
}
"""Settings of single learners on top of those, inner and outer."""
STEPS = {"from-scratch": 100}
"""Adaptation steps before a learner is judged; as many as in training for who is not named."""
UPDATES = 300
"""The most meta-updates that training may take."""


def built(tasks: FewShotTasks, config: FewShotAgentConfig) -> SupervisedAgent:
    """The one place that knows where learners come from."""
    return catalogue.build(tasks.spec, config, np.random.default_rng(0), torch.device("cpu"))


def quick(name: str) -> FewShotAgentConfig:
    """Settings with which the learner learns fast."""
    config = CONFIGS[name]
    own_inner, own_outer = OF_LEARNERS.get(name, ({}, {}))
    return replace(
        config,
        inner=with_known(config.inner, {**INNER, **own_inner}),
        outer=with_known(config.outer, {**OUTER, **own_outer}),
        network=NetworkConfig(hidden=(16,), activation="tanh"),
    )


def with_known(rule: Any, settings: dict[str, Any]) -> Any:
    """A rule with those of the settings that it has."""
    return replace(rule, **{name: x for name, x in settings.items() if hasattr(rule, name)})


class Pupil:
    """A learner, and the tasks that it learns."""

    def __init__(self, config: FewShotAgentConfig, tasks: FewShotTasks):
        self.tasks, self.learner = tasks, built(tasks, config)
        self.steps = STEPS.get(config.name, self.learner.steps)
        self.rng = np.random.default_rng(1)

    def drawn(self, tasks: int, queries: int) -> tuple[Examples, Examples]:
        return self.tasks.draw(self.tasks.sample(tasks, self.rng), SHOTS, queries, self.rng)

    def train(self) -> None:
        """Meta-updates; every tenth time it is looked whether it is enough: a batch
        must show more than is asked for later."""
        for update in range(UPDATES):
            support, query = self.drawn(TASKS, QUERIES)
            if update % 10 == 0 and self.errors(support, query)[1] < 0.4 * NEAR:
                break
            assert self.updated(support, query)["skipped"] == 0.0

    def updated(self, support: Examples, query: Examples) -> dict[str, float]:
        state = self.learner.begin()
        for _ in range(self.learner.steps):
            state = self.learner.adapt(state, support)
        return self.learner.meta_update(state, query, self.rng)

    def errors(self, support: Examples, query: Examples) -> tuple[float, float]:
        """Returns the query's error before and after adaptation: the share of classes that are
        wrong, or the mean squared error."""
        state = self.learner.begin()
        before = self.learner.predict(state, query.inputs)
        for _ in range(self.steps):
            state = self.learner.adapt(state, support)
        after = self.learner.predict(state, query.inputs)

        def error(predicted: torch.Tensor) -> float:
            if self.tasks.spec.classes:
                return float((predicted.argmax(-1) != query.targets).float().mean())
            return float((predicted - query.targets).square().mean())

        return error(before), error(after)

    def judged(self) -> tuple[float, float]:
        """`errors` on fresh tasks."""
        return self.errors(*self.drawn(40, 25))


@pytest.fixture(autouse=True)
def one_thread():
    """More would wait for each other in products as small as these."""
    with torch_threads(1):
        yield


@pytest.mark.parametrize("name", OF_NUMBERS)
@pytest.mark.parametrize("varies", ["offset", "slope"])
def test_a_number_to_find(name, varies):
    """One value, or a linear function: before adaptation 1 is the least possible error, after it 0.
    The mean over tasks is exactly that, so nobody is below it before."""
    pupil = Pupil(quick(name), probes.LineProbe(varies))
    pupil.train()
    before, after = pupil.judged()
    assert before > 1.0 - NEAR
    assert after < NEAR


@pytest.mark.parametrize("name", NAMES)
def test_classes_that_lie_apart(name):
    """Half of the query is wrong before adaptation, none after it."""
    pupil = Pupil(quick(name), probes.SidesProbe())
    pupil.train()
    before, after = pupil.judged()
    assert before == pytest.approx(0.5, abs=NEAR)
    assert after < NEAR


@pytest.mark.parametrize("name", NEVER_TRAINED)
def test_without_an_outer_rule_nothing_is_learned_for_other_tasks(name):
    pupil = Pupil(quick(name), probes.LineProbe("offset"))
    drawn = pupil.drawn(TASKS, QUERIES)
    before = pupil.errors(*drawn)
    pupil.updated(*drawn)
    assert pupil.errors(*drawn) == before


@pytest.mark.parametrize("name", [name for name in OF_NUMBERS if name not in NEVER_TRAINED])
def test_an_untrained_learner_is_not_there_as_soon(name):
    """The very steps that lead trained learners to the optimum leave them far from it at first."""
    _, after = Pupil(quick(name), probes.LineProbe("slope")).judged()
    assert after > 2.0 * NEAR
