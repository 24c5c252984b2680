"""A distribution as the checks see it: some of its tasks, played with random actions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl import keys
from metarl.checking.options import CheckOptions
from metarl.config.settings import PolicyConfig
from metarl.equations.distributions import ActionDistribution
from metarl.errors import UserError
from metarl.networks.mlp import MlpPolicy
from metarl.sampling.collect import Draws, collect, draw, memoryless, returns_of
from metarl.types import BatchedEnv, Classes, EnvSpec, Task, TaskDistribution, Trajectories, Workers

MANY = 1000
"""Tasks that are drawn to see how many different ones there are."""
HERE = Workers(0)
"""This process alone."""
CPU = torch.device("cpu")


class RandomPolicy:
    """Actions N(0, 1) in a Box, which the environment clips, and uniform ones elsewhere."""

    def __init__(self, spec: EnvSpec):
        policy = MlpPolicy(spec, PolicyConfig())
        self._kind: Any = policy.kind
        self.noise = policy.kind.noise, policy.noise_dim

    def act(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, ActionDistribution]:
        """The distribution's parameters are all zero, whatever is observed."""
        distribution = self._kind(*[torch.zeros_like(noise)] * len(self._kind._fields))
        return distribution.sample(noise), distribution


class Subject:
    """What is checked. `close` it when done."""

    def __init__(self, distribution: TaskDistribution, options: CheckOptions):
        self.distribution, self.options = distribution, options
        self.beside = 2 - options.episodes % 2
        """Episodes of a task side by side. Few: an environment may take a second to make, and one
        that is used again shows whether its reset is one."""

    @cached_property
    def spec(self) -> EnvSpec:
        return self.distribution.spec

    @cached_property
    def policy(self) -> RandomPolicy:
        """
        Raises:
            UserError: for a space that no agent acts in.
        """
        return RandomPolicy(self.spec)

    def sample(self, split: str, num: int = MANY) -> list[Task]:
        """Tasks of a split, from the same generator for either."""
        rng = keys.generator(self.options.seed, keys.Purpose.TRIAL)
        if isinstance(self.distribution, Classes):
            many = self.distribution.spread(split)
            num = -(-num // many) * many
        tasks = list(self.distribution.sample(num, rng, split))
        if len(tasks) != num:
            raise UserError(
                f"sample({num}, rng, {split!r}) returned {len(tasks)} tasks; return as many as "
                "are asked for, some of them again where there are fewer"
            )
        return tasks

    @cached_property
    def different(self) -> list[Task]:
        """Training tasks, no two alike."""
        return distinct(self.sample("train"))

    @property
    def tasks(self) -> list[Task]:
        """Those that are played."""
        return self.different[: self.options.tasks]

    @cached_property
    def env(self) -> BatchedEnv:
        """The tasks side by side on a worker, which may die or hang; what cannot travel to one,
        in this process."""
        alone = Workers(1, self.options.worker_timeout, max_failures=0)
        try:
            return self.distribution.open(len(self.tasks), self.beside, alone)
        except UserError:
            return self.distribution.open(len(self.tasks), self.beside, HERE)

    @cached_property
    def rounds(self) -> list[Trajectories]:
        """All episodes of all tasks, `beside` at a time, none longer than `steps`."""
        indices = range(self.options.episodes // self.beside)
        return [self.play(self.env, self.tasks, self.steps, index) for index in indices]

    @property
    def returns(self) -> np.ndarray:
        """[K, E] of random actions, undiscounted."""
        return np.concatenate([returns_of(one).numpy() for one in self.rounds], axis=1)

    @property
    def steps(self) -> int:
        """Steps of an episode when all are played."""
        return self.steps_of(len(self.tasks) * self.options.episodes)

    @property
    def whole(self) -> bool:
        """Whether `rounds` hold all that there was to play."""
        ended = (bool((one.terminated | one.truncated).any(1).all()) for one in self.rounds)
        return self.steps == self.spec.horizon or all(ended)

    def steps_of(self, episodes: int, share: float = 1.0) -> int:
        """Steps that so many episodes can have in a share of `max_steps`."""
        return max(1, min(self.spec.horizon, int(share * self.options.max_steps) // episodes))

    def draws(self, num_tasks: int, *counters: int) -> Draws:
        seed = self.options.seed
        return draw(self.spec, num_tasks, self.beside, self.policy.noise, seed, *counters)

    def play(
        self, env: BatchedEnv, tasks: Sequence[Task], steps: int, *counters: int
    ) -> Trajectories:
        """An episode in each of the environments, `steps` long at most."""
        return self.play_draws(env, tasks, steps, self.draws(len(tasks), *counters))

    def play_draws(
        self, env: BatchedEnv, tasks: Sequence[Task], steps: int, draws: Draws
    ) -> Trajectories:
        env.set_tasks(tasks)
        brief = draws._replace(noise=draws.noise[:steps])
        return collect(env, memoryless(self.policy.act), brief, self.spec, CPU, tasks)

    def close(self) -> None:
        if "env" in self.__dict__:
            with suppress(Exception):  # the checks close environments of their own, and tell
                self.env.close()


def key_of(task: Task) -> str:
    """Equal for equal tasks, whatever they hold."""
    return json.dumps(dict(task), sort_keys=True, default=repr)


def distinct(tasks: Iterable[Task]) -> list[Task]:
    """The tasks without repetitions, in their order."""
    found: dict[str, Task] = {}
    for task in tasks:
        found.setdefault(key_of(task), task)
    return list(found.values())
