"""An agent on some tasks as the checks see it: it adapts to a few of them, and is looked at."""

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
"""(spec, rng, device) -> an agent before its first update; its weights are drawn from `rng`."""
Place = Literal["support", "query"]

TASKS = 3
"""Tasks in a meta-batch; where they are of classes, at least so many."""
EPISODES = 4
FIRST = 4
"""Meta-updates at least, before adaptation is looked at."""
SHOTS, QUERIES = 4, 5


class How(NamedTuple):
    """What a check of an agent is asked."""

    learns: bool = True
    """Whether meta-updates change the agent; of a control they do not."""
    updates: int = 5
    """Meta-updates before adaptation is looked at: some agents adapt in no way before."""
    seed: int = 1
    device: torch.device = torch.device("cpu")


class Batch(NamedTuple):
    """A meta-batch, adapted."""

    state: Any
    supports: tuple[Any, ...]
    """Of each step."""
    query: Any


class FirstUpdates(NamedTuple):
    """What some meta-updates made of an agent."""

    agent: Any
    before: Params
    kept: Params
    """What `state_dict` returned before them, itself."""
    after: Params


class Learner(ABC):
    """Agents of one make on tasks of one distribution. `close` it when done."""

    members: tuple[str, ...] = (
        "steps",
        "begin",
        "adapt",
        "meta_update",
        "state_dict",
        "load_state_dict",
    )
    """What an agent has."""
    steps_apart = 1
    """Adaptation steps after which tasks are compared."""
    told_apart = 0.0
    """How much more than this other data of a task change what it does there."""
    gradients_off = False
    """Whether agents adapt inside `torch.no_grad` too."""
    may_refuse = False
    """Whether meta_update may raise a UserError for data that are not finite."""

    def __init__(self, make: Make, distribution: Any, how: How):
        self.make, self.distribution, self.how = make, distribution, how
        self.spec = distribution.spec
        self.metrics: list[Metrics] = []
        """Of every update from what is finite."""

    @property
    def name(self) -> str:
        return self.spec.name

    def agent(self, seed: int = 0) -> Any:
        """An agent before its first update."""
        return self.make(self.spec, np.random.default_rng(seed), self.how.device)

    @cached_property
    def first(self) -> FirstUpdates:
        """An agent's first updates: several, since a line search may find nothing in few data."""
        agent = self.agent()
        kept, before = agent.state_dict(), weights(agent)
        for number in range(FIRST):
            self.update(agent, number)
        return FirstUpdates(agent, before, kept, weights(agent))

    @cached_property
    def trained(self) -> Any:
        """An agent after some updates, for checks that change nothing in it."""
        agent = self.first.agent
        for number in range(FIRST, self.how.updates if self.how.learns else 0):
            self.update(agent, number)
        return agent

    def update(self, agent: Any, number: int) -> Metrics:
        """A meta-update from the tasks that belong to `number`; its metrics are kept."""
        batch = self.batch(agent, number, agent.steps)
        found = agent.meta_update(batch.state, batch.query, self.rng(number))
        self.metrics.append(found)
        return found

    def rng(self, *counters: int) -> np.random.Generator:
        return keys.generator(self.how.seed, keys.Purpose.TRIAL, *counters)

    def adapted(self, agent: Any, support: Any, steps: int = 1) -> Any:
        """Tasks after steps on one support."""
        state = agent.begin()
        for _ in range(steps):
            state = agent.adapt(state, support)
        return state

    @abstractmethod
    def close(self) -> None:
        """Gives back what is open."""

    @abstractmethod
    def batch(self, agent: Any, number: int, steps: int) -> Batch:
        """The tasks that belong to `number`, adapted from the meta-parameters."""

    @abstractmethod
    def misfit(self, agent: Any) -> str:
        """What is wrong with the shapes of what the agent does; empty where nothing is."""

    @abstractmethod
    def does(self, agent: Any, state: Any, query: Any) -> list[Tensor]:
        """What the agent does in a state where `query` was drawn, [K, ...] each."""

    @abstractmethod
    def altered(self, support: Any, number: int) -> Any:
        """The support with other data of task 1."""

    @abstractmethod
    def spoilt(self, data: Any) -> Any:
        """The data with numbers that are not finite."""

    @abstractmethod
    def alone(self, support: Any, query: Any, task: int) -> tuple[Any, Any] | None:
        """One task's part of the data, where it can be learned from beside no other."""


class ExampleLearner(Learner):
    """Supervised tasks."""

    members = (*Learner.members, "predict")
    steps_apart = 3  # the first step of an Adam knows the signs of a gradient alone
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
        """Nothing is open."""


class EpisodeLearner(Learner):
    """Tasks of reinforcement."""

    members = (*Learner.members, "noise", "actor")
    may_refuse = True  # whoever plays episodes refuses such rewards before
    distribution: TaskDistribution

    @cached_property
    def env(self) -> BatchedEnv:
        return self.distribution.open(self.num_tasks, EPISODES, Workers(0))

    @property
    def num_tasks(self) -> int:
        """Tasks of classes are sampled in multiples of their number."""
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
        """The policy's distribution where an episode of the query ended."""
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
    """One for each distribution, closed afterwards."""
    kinds = [EpisodeLearner if hasattr(one, "open") else ExampleLearner for one in distributions]
    pairs = zip(kinds, distributions, strict=True)
    learners: list[Learner] = [kind(make, one, how) for kind, one in pairs]
    try:
        yield learners
    finally:
        for learner in learners:
            learner.close()


def weights(agent: Any) -> Params:
    """What the agent saves, copied."""
    return {name: x.clone() for name, x in agent.state_dict().items()}


def difference(one: Params, other: Params) -> str:
    """The first name whose tensors are not the same to the bit; empty where there is none."""
    if one.keys() != other.keys():
        return ", ".join(sorted(one.keys() ^ other.keys()))
    return next((name for name, x in one.items() if not torch.equal(x, other[name])), "")
