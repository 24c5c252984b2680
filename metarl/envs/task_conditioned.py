"""Tasks whose parameters are part of the observation; oracle agents train on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from metarl.errors import UserError
from metarl.types import (
    BatchedEnv,
    Classes,
    StepResult,
    Task,
    TaskDistribution,
    Workers,
    takes_progress,
)

MAX_INTEGER = 2**24
"""The largest integer up to which float32 holds every integer exactly."""


class TaskConditioned:
    """Wraps a distribution: each observation is followed by its task's numbers.

    These are all numbers of the task, unscaled, in the order of their names; lists and arrays are
    flattened.
    """

    def __init__(self, distribution: TaskDistribution):
        """
        Raises:
            UserError: for tasks that their numbers do not describe: classes, text, task indices.
        """
        spec = distribution.spec
        if isinstance(distribution, Classes):
            raise UserError(
                f"{spec.name}: a task is a class and the index of a goal, which tell an oracle "
                "nothing\nchoose tasks made of quantities, such as point-goal or half-cheetah-vel"
            )
        self._distribution = distribution
        self.width = len(numbers_of(distribution.sample(1, np.random.default_rng(0))[0]))
        """The count of numbers in a task."""
        seen, anything = spec.observation_space, np.full(self.width, np.inf, np.float32)
        low, high = np.append(seen.low, -anything), np.append(seen.high, anything)
        self.spec = spec._replace(observation_space=Box(low, high, dtype=np.float32))

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines to print before a run starts."""
        return (
            *getattr(self._distribution, "notes", ()),
            f"{self.spec.name}: observations end with the task's numbers ({self.width}), "
            "which other agents must find out",
        )

    def sample(
        self,
        num_tasks: int,
        rng: np.random.Generator,
        split: str = "train",
        draw: str = "random",
        **progress: Any,
    ) -> Sequence[Task]:
        return self._distribution.sample(num_tasks, rng, split, draw, **progress)

    @property
    def takes_progress(self) -> bool:
        return takes_progress(self._distribution)

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> TaskConditionedEnv:
        env = self._distribution.open(num_tasks, episodes_per_task, workers)
        return TaskConditionedEnv(env, (num_tasks, episodes_per_task, self.width))

    def describe(self, task: Task) -> str:
        return self._distribution.describe(task)


class TaskConditionedEnv:
    """K x E environments that append their tasks' numbers to observations, stepped in one part."""

    def __init__(self, env: BatchedEnv, shape: tuple[int, int, int]):
        """`shape` is (K, E, numbers in a task)."""
        self._env, self._numbers = env, np.zeros(shape, np.float32)

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """
        Raises:
            UserError: for a task with more or fewer numbers than the first.
        """
        self._env.set_tasks(tasks)
        width = self._numbers.shape[-1]
        for own, task in zip(self._numbers, tasks, strict=True):
            numbers = numbers_of(task)
            if len(numbers) != width:
                raise UserError(
                    f"the task {dict(task)} has {len(numbers)} numbers, another had {width}\n"
                    "an oracle's observations have a fixed width: give lists of the same length"
                )
            own[:] = numbers

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        return self._with_numbers(self._env.reset(seeds))

    def step(self, actions: np.ndarray) -> StepResult:
        step = self._env.step(actions)
        return step._replace(obs=self._with_numbers(step.obs))

    def close(self) -> None:
        self._env.close()

    def _with_numbers(self, obs: np.ndarray) -> np.ndarray:
        return np.concatenate([obs, self._numbers], axis=-1)


def numbers_of(task: Task) -> list[float]:
    """Returns every number in a task, in the order of its names.

    Raises:
        UserError: for text, and for an integer too large for float32.
    """
    return [number for name in sorted(task) for number in _numbers(task[name], name)]


def _numbers(value: Any, place: str) -> Iterator[float]:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        for name in sorted(value):
            yield from _numbers(value[name], f"{place}.{name}")
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item, place)
    elif not isinstance(value, int | float | np.number | np.bool_):
        raise UserError(
            f"the task's {place} is {value!r}, not a number that an oracle can observe\n"
            "give it as a number or a list of numbers, or choose another agent"
        )
    elif isinstance(value, int | np.integer) and abs(value) > MAX_INTEGER:
        raise UserError(
            f"the task's {place} is {value}: an index of tasks, which tells an oracle nothing\n"
            "give the quantities that the task consists of, or choose another agent"
        )
    else:
        yield float(value)
