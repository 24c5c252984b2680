"""Plays some tasks of a distribution with random actions, for the checks."""

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
from metarl.runs.plain import plain
from metarl.sampling.collect import Draws, collect, draw, memoryless, returns_of
from metarl.types import BatchedEnv, Classes, EnvSpec, Task, TaskDistribution, Trajectories, Workers

MANY = 1000
"""Number of tasks drawn to find different ones."""
HERE = Workers(0)
"""Steps environments in this process alone."""
CPU = torch.device("cpu")


class RandomPolicy:
    """Random actions: N(0, 1) in a Box, clipped by the environment, and uniform in other spaces."""

    def __init__(self, spec: EnvSpec):
        policy = MlpPolicy(spec, PolicyConfig())
        self._kind: Any = policy.kind
        self.noise = policy.kind.noise, policy.noise_dim

    def act(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, ActionDistribution]:
        """Samples from the distribution whose parameters are all zero, whatever `obs` is."""
        distribution = self._kind(*[torch.zeros_like(noise)] * len(self._kind._fields))
        return distribution.sample(noise), distribution


class Subject:
    """The distribution to check and the episodes played in it; `close` it when done."""

    def __init__(self, distribution: TaskDistribution, options: CheckOptions):
        self.distribution, self.options = distribution, options
        self.parallel = 2 - options.episodes % 2
        """Parallel episodes of a task. Few: an environment may take a second to make, and using it
        again tests its reset."""

    @cached_property
    def spec(self) -> EnvSpec:
        return self.distribution.spec

    @cached_property
    def policy(self) -> RandomPolicy:
        """The random policy.

        Raises:
            UserError: for an action space that no agent supports.
        """
        return RandomPolicy(self.spec)

    def sample(self, split: str, num: int = MANY) -> list[Task]:
        """Draws tasks of a split; both splits use the same generator."""
        rng = keys.generator(self.options.seed, keys.Purpose.TASK_CHECK)
        num = spread_evenly(self.distribution, num, split)
        tasks = list(self.distribution.sample(num, rng, split))
        if len(tasks) != num:
            raise UserError(
                f"sample({num}, rng, {split!r}) returned {len(tasks)} tasks; return {num}, and "
                "repeat some if there are fewer"
            )
        return tasks

    @cached_property
    def different(self) -> list[Task]:
        """The different training tasks among those drawn."""
        return distinct(self.sample("train"))

    @property
    def tasks(self) -> list[Task]:
        """The tasks that are played."""
        return self.different[: self.options.tasks]

    @cached_property
    def env(self) -> BatchedEnv:
        """The environment of all tasks: on a worker, which may die or hang, if it can be sent to
        one, else in this process."""
        alone = Workers(1, self.options.worker_timeout, max_failures=0)
        try:
            return self.distribution.open(len(self.tasks), self.parallel, alone)
        except UserError:
            return self.distribution.open(len(self.tasks), self.parallel, HERE)

    @cached_property
    def rounds(self) -> list[Trajectories]:
        """All episodes of all tasks, `parallel` of each task at a time, at most `steps` long."""
        indices = range(self.options.episodes // self.parallel)
        return [self.play(self.env, self.tasks, self.steps, index) for index in indices]

    @property
    def returns(self) -> np.ndarray:
        """The undiscounted returns of random actions, [K, E]."""
        return np.concatenate([returns_of(one).numpy() for one in self.rounds], axis=1)

    @property
    def steps(self) -> int:
        """The most steps of an episode when all episodes are played."""
        return self.steps_of(len(self.tasks) * self.options.episodes)

    @property
    def whole(self) -> bool:
        """Whether no episode in `rounds` was cut short."""
        ended = (bool((one.terminated | one.truncated).any(1).all()) for one in self.rounds)
        return self.steps == self.spec.horizon or all(ended)

    def steps_of(self, episodes: int, share: float = 1.0) -> int:
        """Returns the most steps of each of `episodes` within a share of `max_steps`."""
        return max(1, min(self.spec.horizon, int(share * self.options.max_steps) // episodes))

    def draws(self, num_tasks: int, *counters: int, alike: bool = False) -> Draws:
        """Returns the draws of some tasks' episodes; the same for all tasks if `alike`."""
        key = self.options.seed, keys.Phase.TASK_CHECK, *counters
        return draw(self.spec, num_tasks, self.parallel, self.policy.noise, *key, alike=alike)

    def play(
        self, env: BatchedEnv, tasks: Sequence[Task], steps: int, *counters: int
    ) -> Trajectories:
        """Plays an episode in each of the environments, at most `steps` long."""
        return self.play_draws(env, tasks, steps, self.draws(len(tasks), *counters))

    def play_draws(
        self, env: BatchedEnv, tasks: Sequence[Task], steps: int, draws: Draws
    ) -> Trajectories:
        env.set_tasks(tasks)
        brief = draws._replace(steps=min(steps, draws.steps))
        return collect(env, memoryless(self.policy.act), brief, self.spec, CPU, tasks)

    def close(self) -> None:
        if "env" in self.__dict__:
            with suppress(Exception):  # other checks report a failing close
                self.env.close()


def spread_evenly(distribution: TaskDistribution, num: int, split: str) -> int:
    """Returns the least number of tasks from `num` on that a split's classes share equally."""
    many = distribution.spread(split) if isinstance(distribution, Classes) else 1
    return -(-num // many) * many


def key_of(task: Task) -> str:
    """Returns a string that is equal for equal tasks, whatever values they hold."""
    try:
        return json.dumps(plain(task), sort_keys=True)
    except UserError:  # what cannot be stored is found by a check of its own
        return repr(task)


def distinct(tasks: Iterable[Task]) -> list[Task]:
    """Returns the tasks in order, without repetitions."""
    return list({key_of(task): task for task in tasks}.values())
