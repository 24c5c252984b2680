"""Every promise of an agent: a good one keeps them all, one that breaks a promise is found out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metarl.agents import catalogue
from metarl.agents.inner.sgd import SgdConfig
from metarl.checking.agents import check_agent, usual_tasks
from metarl.checking.findings import Finding, summary
from metarl.config.settings import NetworkConfig
from metarl.types import Examples, Trajectories

PROMISES = [
    "interface", "only updates", "learns", "function", "tasks apart", "longer", "resumes",
    "refuses", "metrics", "not finite",
]  # fmt: skip
STEPS = 3
SOURCES = ("examples", "episodes")


def good(source: str, spec: Any, rng: Any, device: Any) -> Any:
    """MAML of three steps, with Adam outside."""
    if source == "examples":
        config = catalogue.default("maml", "examples")
        inner = SgdConfig(lr=0.01, steps=STEPS)
        config = replace(config, inner=inner, network=NetworkConfig(hidden=(8,)))
        return catalogue.build(spec, config, rng, device)
    config = catalogue.default("maml-ppo")
    policy = replace(config.policy, hidden=(8,))
    config = replace(config, inner=SgdConfig(lr=0.1, steps=STEPS), policy=policy)
    return catalogue.build(spec, config, rng, device)


class Wrapped:
    """A good agent, in which something is broken."""

    def __init__(self, agent: Any):
        self.agent, self.count = agent, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)


def with_targets(support: Any, change: Any) -> Any:
    """A support whose targets, or rewards, are changed."""
    if isinstance(support, Examples):
        return support._replace(targets=change(support.targets))
    assert isinstance(support, Trajectories)
    return support._replace(rewards=change(support.rewards))


class ChangesWhenItAdapts(Wrapped):
    def adapt(self, state: Any, support: Any) -> Any:
        self.agent.meta = {name: x + 1e-3 for name, x in self.agent.meta.items()}
        return self.agent.adapt(state, support)


class WritesIntoItsWeights(Wrapped):
    def meta_update(self, *given: Any) -> Any:
        before = self.agent.meta
        found = self.agent.meta_update(*given)
        for name, x in before.items():
            x.copy_(self.agent.meta[name])
        self.agent.meta = before
        return found


class NeverLearns(Wrapped):
    def meta_update(self, *given: Any) -> Any:
        return {"skipped": 0.0}


class DrawsInAdapt(Wrapped):
    def adapt(self, state: Any, support: Any) -> Any:
        self.count += 1
        turned = with_targets(support, lambda x: (x + self.count).sin())
        return self.agent.adapt(state, turned)


class WritesIntoTheState(Wrapped):
    def adapt(self, state: Any, support: Any) -> Any:
        after = self.agent.adapt(state, support)
        state.params.update(after.params)
        return after


class NeedsGradientsOn(Wrapped):
    def adapt(self, state: Any, support: Any) -> Any:
        return self.agent.adapt(state, support) if torch.is_grad_enabled() else state


class NeverAdapts(Wrapped):
    def adapt(self, state: Any, support: Any) -> Any:
        return state


class KeepsGradients(Wrapped):
    def predict(self, state: Any, inputs: Tensor) -> Tensor:
        return self.agent.predict(state, inputs).requires_grad_()


class MixesTasks(Wrapped):
    def adapt(self, state: Any, support: Any) -> Any:
        mixed = with_targets(
            support, lambda x: x + x.mean(0) * torch.linspace(0, 1, x.shape[1])[:, None]
        )
        return self.agent.adapt(state, mixed)


class LearnsOneTaskForAll(Wrapped):
    def adapt(self, state: Any, support: Any) -> Any:
        first = with_targets(support, lambda x: x[:1].expand_as(x))
        if isinstance(first, Examples):
            first = first._replace(inputs=first.inputs[:1].expand_as(first.inputs))
        return self.agent.adapt(state, first)


class CountsTasks(Wrapped):
    def adapt(self, state: Any, support: Any) -> Any:
        return self.agent.adapt(state, with_targets(support, lambda x: x + len(x)))


class EndsAfterTraining(Wrapped):
    def adapt(self, state: Any, support: Any) -> Any:
        if len(state.supports) > STEPS:
            raise IndexError("no such step")
        return self.agent.adapt(state, support)


class DivergesAfterTraining(Wrapped):
    def adapt(self, state: Any, support: Any) -> Any:
        after = self.agent.adapt(state, support)
        if len(state.supports) > STEPS:
            for x in after.params.values():
                x.fill_(torch.nan)
        return after


class WritesIntoFirstSteps(Wrapped):
    """After so many steps as training does not take."""

    def adapt(self, state: Any, support: Any) -> Any:
        after = first = self.agent.adapt(state, support)
        if len(after.supports) > STEPS + 1:
            while len(first.supports) > 1:
                first = first.before
            first.params.update(after.params)
        return after


class BeginsAnywhere(Wrapped):
    def begin(self) -> Any:
        self.count += 1
        state = self.agent.begin()
        for x in state.params:
            state.params[x] = state.params[x] * (1 + 0.01 * self.count)
        return state


class ForgetsItsOptimizer(Wrapped):
    def state_dict(self) -> Any:
        return dict(self.agent.meta)

    def load_state_dict(self, state: Any) -> None:
        if state.keys() != self.agent.meta.keys():
            raise ValueError("other weights")
        self.agent.load_state_dict({**self.agent.state_dict(), **state})


class LosesAWeight(Wrapped):
    """A weight that updates count on, and loading leaves out."""

    def meta_update(self, *given: Any) -> Any:
        self.count += 1
        return self.agent.meta_update(*given)

    def state_dict(self) -> Any:
        more = torch.tensor(float(self.count > 2))
        return {**self.agent.state_dict(), "more": more}

    def load_state_dict(self, state: Any) -> None:
        if "more" not in state or state["more"].shape:
            raise ValueError("no number")
        self.agent.load_state_dict({name: x for name, x in state.items() if name != "more"})


class CountsUpdates(Wrapped):
    def meta_update(self, *given: Any) -> Any:
        self.count += 1
        return {**self.agent.meta_update(*given), "count": float(self.count)}


class LoadsRounded(Wrapped):
    def load_state_dict(self, state: Any) -> None:
        self.agent.load_state_dict({name: x.half().to(x) for name, x in state.items()})


class TakesAnyWeights(Wrapped):
    def load_state_dict(self, state: Any) -> None:
        own = self.agent.state_dict()
        fits = {n: x for n, x in state.items() if n in own and x.shape == own[n].shape}
        self.agent.load_state_dict({**own, **fits})


class TakesHalf(Wrapped):
    def load_state_dict(self, state: Any) -> None:
        try:
            self.agent.load_state_dict(state)
        except ValueError:
            self.agent.meta = {name: 0 * x for name, x in self.agent.meta.items()}
            raise


class TakesWhatIsNotFinite(Wrapped):
    def meta_update(self, *given: Any) -> Any:
        found = self.agent.meta_update(*given)
        if found["skipped"]:
            self.agent.meta = {name: x + torch.nan for name, x in self.agent.meta.items()}
        return found


class HidesWhatIsNotFinite(Wrapped):
    def meta_update(self, *given: Any) -> Any:
        return {**self.agent.meta_update(*given), "skipped": 0.0}


class RemembersWhatIsNotFinite(Wrapped):
    def meta_update(self, *given: Any) -> Any:
        found = self.agent.meta_update(*given)
        if self.count:
            self.agent.meta = {name: 1.01 * x for name, x in self.agent.meta.items()}
        self.count += int(found["skipped"])
        return found


class SaysInfinity(Wrapped):
    def meta_update(self, *given: Any) -> Any:
        return {**self.agent.meta_update(*given), "loss": float("inf")}


class SaysATensor(Wrapped):
    def meta_update(self, *given: Any) -> Any:
        return {**self.agent.meta_update(*given), "loss": torch.ones(())}


class SaysNothing(Wrapped):
    def meta_update(self, *given: Any) -> Any:
        self.agent.meta_update(*given)
        return {}


class SaysItSkips(Wrapped):
    def meta_update(self, *given: Any) -> Any:
        return {**self.agent.meta_update(*given), "skipped": 1.0}


class HasNoSteps(Wrapped):
    def __getattr__(self, name: str) -> Any:
        if name == "steps":
            raise AttributeError(name)
        return super().__getattr__(name)


class HasHalfAStep(Wrapped):
    steps = 0.5


class PredictsOneNumber(Wrapped):
    def predict(self, state: Any, inputs: Tensor) -> Tensor:
        return self.agent.predict(state, inputs).mean(1)


class HasOtherNoise(Wrapped):
    noise = "uniform", 2


class CannotBeMade(Wrapped):
    def __init__(self, agent: Any):
        raise TypeError("no agent")


BROKEN = {
    ChangesWhenItAdapts: ("only updates", "adapting changes the agent's layer0", SOURCES),
    WritesIntoItsWeights: ("only updates", "meta_update writes into layer0", SOURCES),
    NeverLearns: ("learns", "meta-updates leave the agent as it was", SOURCES),
    DrawsInAdapt: ("function", "adapts to something else a second time", SOURCES),
    WritesIntoTheState: ("function", "adapt changes the state that it was given", SOURCES),
    NeverAdapts: ("function", "after 5 updates adapting changes nothing", SOURCES),
    NeedsGradientsOn: ("function", "where gradients are off", ("examples",)),
    KeepsGradients: ("function", "carries gradients along", ("examples",)),
    MixesTasks: ("tasks apart", "other data of task 1 change what it does in task 0", SOURCES),
    LearnsOneTaskForAll: ("tasks apart", "other data of a task change nothing", SOURCES),
    CountsTasks: ("tasks apart", "task 0 is learned otherwise alone", ("examples",)),
    EndsAfterTraining: ("longer", "IndexError: no such step", SOURCES),
    DivergesAfterTraining: ("longer", "after 5 of 5 steps what it does", ("examples",)),
    BeginsAnywhere: ("function", "a second time it begins elsewhere", SOURCES),
    WritesIntoFirstSteps: ("longer", "its first step is another", ("examples",)),
    ForgetsItsOptimizer: ("resumes", "after loading has other metrics", SOURCES),
    LosesAWeight: ("resumes", "two updates after loading, more is another", SOURCES),
    CountsUpdates: ("resumes", "update 1 after loading has other metrics than without", SOURCES),
    LoadsRounded: ("resumes", "loaded and saved again, layer0", SOURCES),
    TakesAnyWeights: ("refuses", "takes weights with a name more", SOURCES),
    TakesHalf: ("refuses", "refuses (a name more) it has taken layer0", SOURCES),
    TakesWhatIsNotFinite: ("not finite", "a support that is not finite changes layer0", SOURCES),
    HidesWhatIsNotFinite: ("not finite", "is not finite skipped is 0.0", SOURCES),
    RemembersWhatIsNotFinite: ("not finite", "the next update makes layer0", SOURCES),
    SaysInfinity: ("metrics", "the metric loss is inf", SOURCES),
    SaysATensor: ("metrics", "the metric loss is tensor(1.)", SOURCES),
    SaysNothing: ("metrics", "meta_update returns no metric `skipped`", SOURCES),
    SaysItSkips: ("metrics", "of finite data, update 0 says that it was skipped", SOURCES),
    HasNoSteps: ("interface", "the agent has no steps", SOURCES),
    HasHalfAStep: ("interface", "steps is 0.5", SOURCES),
    PredictsOneNumber: ("interface", "predict after 0 steps returns (3, 1), not", ("examples",)),
    HasOtherNoise: ("interface", "noise is of the kind 'uniform'", ("episodes",)),
    CannotBeMade: ("interface", "TypeError: no agent", SOURCES),
}  # fmt: skip
"""Class -> the check that finds it out, what that says, and on which sources."""


def failures(found: dict[str, Finding]) -> set[str]:
    return {name for name, one in found.items() if one.status == "FAIL"}


@pytest.mark.parametrize(
    ("broken", "source"),
    [(broken, source) for broken, (_, _, sources) in BROKEN.items() for source in sources],
)
def test_a_broken_promise_is_found_out(broken, source):
    promise, words, _ = BROKEN[broken]
    tasks = usual_tasks(source)[0]
    found = check_agent(lambda *given: broken(good(source, *given)), tasks, tell=lambda line: None)
    assert found[promise].status == "FAIL"
    assert words in found[promise].what
    assert failures(found) == {promise}


@pytest.mark.parametrize("source", SOURCES)
def test_a_good_agent_keeps_every_promise(source):
    """On all usual tasks of a source; what is found is told line by line."""
    said: list[str] = []
    found = check_agent(lambda *given: good(source, *given), source, tell=said.append)
    assert list(found) == PROMISES
    assert summary(found) == "10 checks: 10 ok"
    names = {"examples": "(sinusoid, digits)", "episodes": "(point-goal, bandit:5)"}[source]
    assert len(said) == 10
    assert all(line.startswith("ok ") and line.endswith(names) for line in said)


def test_tasks_of_one_step_are_told_apart_too():
    from metarl.envs.arrays.bandit import Bandit

    make = lambda *given: good("episodes", *given)  # noqa: E731
    found = check_agent(make, Bandit("bandit:5", "5", 1), tell=lambda line: None)
    assert found["tasks apart"].status == "ok"


def test_every_promise_has_an_agent_that_breaks_it():
    assert {promise for promise, _, _ in BROKEN.values()} == set(PROMISES)


def test_a_control_learns_nothing():
    """A control must be announced; then a meta-update must leave it as it was."""
    config = replace(
        catalogue.default("from-scratch", "examples"), network=NetworkConfig(hidden=(8,))
    )

    def make(*given: Any) -> Any:
        spec, rng, device = given
        return catalogue.build(spec, config, rng, device)

    tasks, quiet = usual_tasks("examples")[0], lambda line: None
    found = check_agent(make, tasks, learns=False, tell=quiet)
    assert failures(found) == set()
    assert found["not finite"].status == "skipped"
    assert failures(check_agent(make, tasks, tell=quiet)) == {"learns"}
    found = check_agent(lambda *given: good("examples", *given), tasks, learns=False, tell=quiet)
    assert found["learns"].what.endswith("of which learns=False was said")


def test_without_its_interface_nothing_else_is_looked_at():
    """A make that raises is told with the traceback."""
    said: list[str] = []
    tasks = usual_tasks("examples")[0]
    found = check_agent(
        lambda *given: CannotBeMade(good("examples", *given)), tasks, tell=said.append
    )
    assert [one.status for one in found.values()] == ["FAIL", *["skipped"] * 9]
    assert "Traceback (most recent call last)" in "\n".join(said)


def test_other_words_than_the_sources_are_refused():
    with pytest.raises(ValueError, match="give 'episodes', 'examples' or tasks of your own"):
        check_agent(lambda *given: good("examples", *given), "sinusoid")
