"""Learners for the checks: agents that adapt to a few tasks, with access to their outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl import keys
from metarl.checking.findings import expect
from metarl.checking.play import CPU, HERE, spread_evenly
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import BatchedEnv, Examples, Metrics, Params, Trajectories

Make = Callable[[Any, np.random.Generator, torch.device], Any]
"""Function (spec, rng, device) -> an agent before its first update; `rng` draws its weights."""

TASKS = 3
"""Tasks in a meta-batch; a minimum for tasks of classes."""
EPISODES = 4
LEAST_UPDATES = 4
"""Minimum number of meta-updates of a trained agent, since a line search may fail on few data."""
SHOTS, QUERIES = 4, 5


class Trained(NamedTuple):
    """Agent after some meta-updates, for checks that do not change it."""

    agent: Any
    before: Params
    """Copy of its weights before them."""
    kept: Params
    """Dict that `state_dict` returned before them, not copied."""


@dataclass(eq=False)
class Learner(ABC):
    """Makes and runs agents on tasks of one distribution."""

    members: ClassVar = "steps", "begin", "adapt", "meta_update", "state_dict", "load_state_dict"
    """Names of the members that an agent must have."""
    steps_apart: ClassVar = 1
    """Number of adaptation steps after which tasks are compared."""
    told_apart: ClassVar = 0.0
    """Threshold that the effect of other data on a task's output must exceed."""
    spoils: ClassVar[tuple[str, Any]]
    """Field of the data, and the index in it, that `spoilt` makes infinite."""

    make: Make
    distribution: Any
    stack: ExitStack
    """Closes the environments that are opened."""
    learns: bool = True
    """Whether meta-updates change the agent; those of a control do not."""
    updates: int = 5
    """Meta-updates before adaptation is checked; some agents do not adapt before."""
    seed: int = 1
    device: torch.device = CPU
    metrics: list[Metrics] = field(default_factory=list, init=False)
    """Metrics of every update from finite data."""

    @property
    def spec(self) -> Any:
        return self.distribution.spec

    def agent(self, seed: int = 0) -> Any:
        """Makes an agent before its first update."""
        return self.make(self.spec, np.random.default_rng(seed), self.device)

    @cached_property
    def trained(self) -> Trained:
        """An agent after some updates: many do nothing in their first adaptation."""
        agent = self.agent()
        kept, before = agent.state_dict(), weights(agent)
        for number in range(max(LEAST_UPDATES, self.updates if self.learns else 0)):
            self.update(agent, number)
        return Trained(agent, before, kept)

    def update(self, agent: Any, number: int) -> Metrics:
        """Takes a meta-update on tasks chosen by `number` and keeps its metrics."""
        *supports, query = self.rounds(agent, number, agent.steps)
        found = agent.meta_update(adapted(agent, supports), query, self.rng(number, 1))
        self.metrics.append(found)
        return found

    def rng(self, number: int, use: int = 0) -> np.random.Generator:
        """Makes the generator of an update's tasks (use 0) or of its outer step (1)."""
        return keys.generator(self.seed, keys.Purpose.AGENT_CHECK, number, use)

    def spoilt(self, data: Any) -> Any:
        """Returns the data with some non-finite numbers."""
        name, index = self.spoils
        spoilt = getattr(data, name).clone()
        spoilt[index] = torch.inf
        return data._replace(**{name: spoilt})

    @abstractmethod
    def rounds(self, agent: Any, number: int, steps: int) -> list[Any]:
        """Draws a support for each of `steps` steps, then a query, of tasks chosen by `number`."""

    @abstractmethod
    def expect_shapes(self, agent: Any) -> None:
        """Raises Broken where the agent's outputs have other shapes than promised."""

    @abstractmethod
    def does(self, agent: Any, state: Any, query: Any) -> Tensor:
        """Returns the agent's outputs on `query` in a state, [K, numbers]."""

    @abstractmethod
    def altered(self, support: Any) -> Any:
        """Returns the support with other data for task 1."""


class ExampleLearner(Learner):
    """Learner on supervised tasks."""

    members = *Learner.members, "predict"
    steps_apart = 3  # Adam's first step depends only on the signs of a gradient
    told_apart = 1e-4
    spoils = "inputs", (0, 0)

    def rounds(self, agent: Any, number: int, steps: int) -> list[Examples]:
        rng = self.rng(number)
        drawn = self.distribution.draw(self.distribution.sample(TASKS, rng), SHOTS, QUERIES, rng)
        support, query = (Examples(*(x.to(self.device) for x in part)) for part in drawn)
        return [*[support] * steps, query]

    def expect_shapes(self, agent: Any) -> None:
        for steps in (0, 1):
            *supports, query = self.rounds(agent, 0, steps)
            wanted = (*query.inputs.shape[:2], self.spec.outputs)
            found = agent.predict(adapted(agent, supports), query.inputs)
            shape = tuple(getattr(found, "shape", ()))
            expect(
                isinstance(found, Tensor) and shape == wanted,
                f"predict after {steps} steps returns {shape}, not a tensor {wanted}",
            )

    def does(self, agent: Any, state: Any, query: Examples) -> Tensor:
        return agent.predict(state, query.inputs).flatten(1)

    def altered(self, support: Examples) -> Examples:
        mixed = Examples(*(x.clone() for x in support))
        for ours, theirs in zip(mixed, self.rounds(None, 101, 1)[0], strict=True):
            ours[1] = theirs[1]
        return mixed


class EpisodeLearner(Learner):
    """Learner on reinforcement learning tasks."""

    members = *Learner.members, "noise", "actor"
    spoils = "rewards", np.s_[:, 0]

    @cached_property
    def env(self) -> BatchedEnv:
        num_tasks = spread_evenly(self.distribution, TASKS, "train")
        env = self.distribution.open(num_tasks, EPISODES, HERE)
        return self.stack.enter_context(closing(env))

    def rounds(self, agent: Any, number: int, steps: int) -> list[Trajectories]:
        num_tasks = spread_evenly(self.distribution, TASKS, "train")
        tasks = self.distribution.sample(num_tasks, self.rng(number))
        key = self.seed, keys.Phase.AGENT_CHECK, number
        _, rounds = adaptation_rounds(
            agent, self.env, self.spec, tasks, EPISODES, steps, key, self.device
        )
        return rounds

    def expect_shapes(self, agent: Any) -> None:
        kind, _ = agent.noise
        known = kind in ("normal", "gumbel")
        expect(known, f"noise is of the kind {kind!r}; the kinds are 'normal' and 'gumbel'")
        query = self.rounds(agent, 0, 1)[-1]
        wanted = (*query.final_obs.shape[:2], self.spec.act_dim)
        found = tuple(query.actions[:, 0].shape)
        expect(found == wanted, f"actions are {found}, not {wanted}")

    def does(self, agent: Any, state: Any, query: Trajectories) -> Tensor:
        """Returns the policy's distribution at the final observations of the query."""
        obs = query.final_obs
        tasks, episodes = obs.shape[:2]
        noise = torch.zeros(tasks, episodes, agent.noise[1], device=self.device)
        _, distribution = agent.actor(state, slice(0, episodes))(obs, None, noise)
        parts = [x.flatten(1) for x in distribution if x.dim() > 1 and len(x) == tasks]
        return torch.cat(parts, 1)

    def altered(self, support: Trajectories) -> Trajectories:
        rewards = support.rewards.clone()
        _, steps, episodes = rewards.shape
        numbers = torch.arange(steps * episodes, device=rewards.device)  # episodes of a step differ
        rewards[1] = rewards[1].flip(0) - numbers.view(steps, episodes)
        return support._replace(rewards=rewards)


def adapted(agent: Any, supports: Sequence[Any]) -> Any:
    """Returns the tasks' state after a step on each support, from the meta-parameters."""
    state = agent.begin()
    for support in supports:
        state = agent.adapt(state, support)
    return state


def weights(agent: Any) -> Params:
    """Returns a copy of the agent's saved weights."""
    return {name: x.clone() for name, x in agent.state_dict().items()}


def difference(one: Params, other: Params) -> str:
    """Returns the first name whose tensors differ in any bit, or an empty string."""
    if one.keys() != other.keys():
        return ", ".join(sorted(one.keys() ^ other.keys()))
    return next((name for name, x in one.items() if not torch.equal(x, other[name])), "")
