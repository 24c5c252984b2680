"""Learners for the checks: agents that adapt to a few tasks, with access to their outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl import keys
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import (
    BatchedEnv,
    Classes,
    Examples,
    FewShotTasks,
    Metrics,
    Params,
    TaskDistribution,
    Trajectories,
    Workers,
)

Make = Callable[[Any, np.random.Generator, torch.device], Any]
"""Function (spec, rng, device) -> an agent before its first update; `rng` draws its weights."""
Place = Literal["support", "query"]

TASKS = 3
"""Tasks in a meta-batch; a minimum for tasks of classes."""
EPISODES = 4
FIRST = 4
"""Minimum number of meta-updates before adaptation is checked."""
SHOTS, QUERIES = 4, 5


class How(NamedTuple):
    """Options of an agent's check."""

    learns: bool = True
    """Whether meta-updates change the agent; those of a control do not."""
    updates: int = 5
    """Meta-updates before adaptation is checked; some agents do not adapt before."""
    seed: int = 1
    device: torch.device = torch.device("cpu")


class Batch(NamedTuple):
    """Adapted meta-batch."""

    state: Any
    supports: tuple[Any, ...]
    """Support of each step."""
    query: Any


class FirstUpdates(NamedTuple):
    """Agent and its weights before and after some meta-updates."""

    agent: Any
    before: Params
    kept: Params
    """Dict that `state_dict` returned before them, not copied."""
    after: Params


class Learner(ABC):
    """Makes and runs agents on tasks of one distribution. Call `close` when done."""

    members: tuple[str, ...] = (
        "steps",
        "begin",
        "adapt",
        "meta_update",
        "state_dict",
        "load_state_dict",
    )
    """Names of the members that an agent must have."""
    steps_apart = 1
    """Number of adaptation steps after which tasks are compared."""
    told_apart = 0.0
    """Threshold that the effect of other data on a task's output must exceed."""
    gradients_off = False
    """Whether agents adapt inside `torch.no_grad` too."""
    may_refuse = False
    """Whether meta_update may raise a UserError for data that are not finite."""

    def __init__(self, make: Make, distribution: Any, how: How):
        self.make, self.distribution, self.how = make, distribution, how
        self.spec = distribution.spec
        self.metrics: list[Metrics] = []
        """Metrics of every update from finite data."""

    @property
    def name(self) -> str:
        return self.spec.name

    def agent(self, seed: int = 0) -> Any:
        """Makes an agent before its first update."""
        return self.make(self.spec, np.random.default_rng(seed), self.how.device)

    @cached_property
    def first(self) -> FirstUpdates:
        """First updates of an agent: several, since a line search may fail on few data."""
        agent = self.agent()
        kept, before = agent.state_dict(), weights(agent)
        for number in range(FIRST):
            self.update(agent, number)
        return FirstUpdates(agent, before, kept, weights(agent))

    @cached_property
    def trained(self) -> Any:
        """Agent after some updates, for checks that do not change it."""
        agent = self.first.agent
        for number in range(FIRST, self.how.updates if self.how.learns else 0):
            self.update(agent, number)
        return agent

    def update(self, agent: Any, number: int) -> Metrics:
        """Takes a meta-update on the tasks that belong to `number` and keeps its metrics."""
        batch = self.batch(agent, number, agent.steps)
        found = agent.meta_update(batch.state, batch.query, self.rng(number))
        self.metrics.append(found)
        return found

    def rng(self, *counters: int) -> np.random.Generator:
        return keys.generator(self.how.seed, keys.Purpose.TRIAL, *counters)

    def adapted(self, agent: Any, support: Any, steps: int = 1) -> Any:
        """Returns the tasks' state after some steps on one support."""
        state = agent.begin()
        for _ in range(steps):
            state = agent.adapt(state, support)
        return state

    @abstractmethod
    def close(self) -> None:
        """Closes open environments."""

    @abstractmethod
    def batch(self, agent: Any, number: int, steps: int) -> Batch:
        """Draws the tasks that belong to `number` and adapts them from the meta-parameters."""

    @abstractmethod
    def misfit(self, agent: Any) -> str:
        """Returns an error about the shapes of the agent's outputs, or an empty string."""

    @abstractmethod
    def does(self, agent: Any, state: Any, query: Any) -> list[Tensor]:
        """Returns the agent's outputs on `query` in a state, [K, ...] each."""

    @abstractmethod
    def altered(self, support: Any, number: int) -> Any:
        """Returns the support with other data for task 1."""

    @abstractmethod
    def spoilt(self, data: Any) -> Any:
        """Returns the data with some non-finite numbers."""

    @abstractmethod
    def alone(self, support: Any, query: Any, task: int) -> tuple[Any, Any] | None:
        """Returns one task's part of the data, or None if it cannot be learned alone."""


class ExampleLearner(Learner):
    """Learner on supervised tasks."""

    members = (*Learner.members, "predict")
    steps_apart = 3  # Adam's first step depends only on the signs of a gradient
    told_apart = 1e-4
    gradients_off = True
    distribution: FewShotTasks

    def draw(self, number: int) -> tuple[Examples, Examples]:
        rng = self.rng(number)
        tasks = self.distribution.sample(TASKS, rng)
        drawn = self.distribution.draw(tasks, SHOTS, QUERIES, rng)
        support, query = (Examples(*(x.to(self.how.device) for x in part)) for part in drawn)
        return support, query

    def batch(self, agent: Any, number: int, steps: int) -> Batch:
        support, query = self.draw(number)
        return Batch(self.adapted(agent, support, steps), (support,) * steps, query)

    def misfit(self, agent: Any) -> str:
        support, query = self.draw(0)
        wanted = (*query.inputs.shape[:2], self.spec.outputs)
        for steps in (0, 1):
            found = agent.predict(self.adapted(agent, support, steps), query.inputs)
            if not isinstance(found, Tensor) or tuple(found.shape) != wanted:
                shape = tuple(getattr(found, "shape", ()))
                return f"predict after {steps} steps returns {shape}, not a tensor {wanted}"
        return ""

    def does(self, agent: Any, state: Any, query: Examples) -> list[Tensor]:
        return [agent.predict(state, query.inputs)]

    def altered(self, support: Examples, number: int) -> Examples:
        mixed = Examples(*(x.clone() for x in support))
        for ours, theirs in zip(mixed, self.draw(number)[0], strict=True):
            ours[1] = theirs[1]
        return mixed

    def spoilt(self, data: Examples) -> Examples:
        inputs = data.inputs.clone()
        inputs[0, 0] = torch.inf
        return data._replace(inputs=inputs)

    def alone(self, support: Examples, query: Examples, task: int) -> tuple[Examples, Examples]:
        ours, theirs = (Examples(*(x[task : task + 1] for x in part)) for part in (support, query))
        return ours, theirs

    def close(self) -> None:
        """Does nothing, since nothing is open."""


class EpisodeLearner(Learner):
    """Learner on reinforcement learning tasks."""

    members = (*Learner.members, "noise", "actor")
    may_refuse = True  # the sampler refuses such rewards earlier
    distribution: TaskDistribution

    @cached_property
    def env(self) -> BatchedEnv:
        return self.distribution.open(self.num_tasks, EPISODES, Workers(0))

    @property
    def num_tasks(self) -> int:
        """Number of tasks in a batch; for tasks of classes a multiple of the classes."""
        if not isinstance(self.distribution, Classes):
            return TASKS
        many = self.distribution.spread("train")
        return -(-TASKS // many) * many

    def play(self, agent: Any, number: int, steps: int) -> tuple[Any, list[Trajectories]]:
        tasks = self.distribution.sample(self.num_tasks, self.rng(number))
        return adaptation_rounds(
            agent, self.env, self.spec, tasks, EPISODES, steps, (self.how.seed, number),
            self.how.device,
        )  # fmt: skip

    def batch(self, agent: Any, number: int, steps: int) -> Batch:
        state, rounds = self.play(agent, number, steps)
        return Batch(state, tuple(rounds[:-1]), rounds[-1])

    def misfit(self, agent: Any) -> str:
        kind, _ = agent.noise
        if kind not in ("normal", "gumbel"):
            return f"noise is of the kind {kind!r}; the kinds are 'normal' and 'gumbel'"
        query = self.batch(agent, 0, 1).query
        wanted = (*query.final_obs.shape[:2], self.spec.act_dim)
        found = tuple(query.actions[:, 0].shape)
        return "" if found == wanted else f"actions are {found}, not {wanted}"

    def does(self, agent: Any, state: Any, query: Trajectories) -> list[Tensor]:
        """Returns the policy's distribution at the final observations of the query."""
        obs = query.final_obs
        tasks, episodes = obs.shape[:2]
        noise = torch.zeros(tasks, episodes, agent.noise[1], device=self.how.device)
        _, distribution = agent.actor(state, slice(0, episodes))(obs, None, noise)
        parts: Any = distribution
        return [x.clone() for x in parts if x.dim() > 1 and len(x) == tasks]

    def altered(self, support: Trajectories, number: int) -> Trajectories:
        rewards = support.rewards.clone()
        steps = torch.arange(rewards.shape[1], device=rewards.device)
        rewards[1] = rewards[1].flip(0) - steps[:, None]
        return support._replace(rewards=rewards)

    def spoilt(self, data: Trajectories) -> Trajectories:
        rewards = data.rewards.clone()
        rewards[:, 0] = torch.inf
        return data._replace(rewards=rewards)

    def alone(self, support: Trajectories, query: Trajectories, task: int) -> None:
        return None

    def close(self) -> None:
        if "env" in self.__dict__:
            self.env.close()


@contextmanager
def opened(make: Make, distributions: Any, how: How) -> Iterator[list[Learner]]:
    """Yields a learner for each distribution and closes them afterwards."""
    kinds = [EpisodeLearner if hasattr(one, "open") else ExampleLearner for one in distributions]
    pairs = zip(kinds, distributions, strict=True)
    learners: list[Learner] = [kind(make, one, how) for kind, one in pairs]
    try:
        yield learners
    finally:
        for learner in learners:
            learner.close()


def weights(agent: Any) -> Params:
    """Returns a copy of the agent's saved weights."""
    return {name: x.clone() for name, x in agent.state_dict().items()}


def difference(one: Params, other: Params) -> str:
    """Returns the first name whose tensors differ in any bit, or an empty string."""
    if one.keys() != other.keys():
        return ", ".join(sorted(one.keys() ^ other.keys()))
    return next((name for name, x in one.items() if not torch.equal(x, other[name])), "")
