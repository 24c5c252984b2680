"""Tasks whose numbers can be seen: what an oracle learns from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from metarl.errors import UserError
from metarl.types import BatchedEnv, Classes, StepResult, Task, TaskDistribution, Workers

MAX_INTEGER = 2**24
"""Beyond it float32 takes neighbouring integers for one."""


class TaskConditioned:
    """The tasks of another distribution, every observation followed by its task's numbers.

    The numbers are all that the task holds, lists and arrays flattened, in the order of their
    names, as they are.
    """

    def __init__(self, distribution: TaskDistribution):
        """
        Raises:
            UserError: for tasks that numbers do not tell: of classes, with text, or numbered.
        """
        spec = distribution.spec
        if isinstance(distribution, Classes):
            raise UserError(
                f"{spec.name}: a task is a class and the index of a goal, which tell an oracle "
                "nothing\nchoose tasks that are quantities, as point-goal's or half-cheetah-vel's"
            )
        self._distribution = distribution
        self.width = len(numbers_of(distribution.sample(1, np.random.default_rng(0))[0]))
        """Numbers in a task."""
        seen, anything = spec.observation_space, np.full(self.width, np.inf, np.float32)
        low, high = np.append(seen.low, -anything), np.append(seen.high, anything)
        self.spec = spec._replace(observation_space=Box(low, high, dtype=np.float32))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user is to know before it starts."""
        return (
            *getattr(self._distribution, "notes", ()),
            f"{self.spec.name}: observations end with the task's numbers ({self.width}), "
            "which other agents must find out",
        )

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> Sequence[Task]:
        return self._distribution.sample(num_tasks, rng, split, draw)

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> TaskConditionedEnv:
        env = self._distribution.open(num_tasks, episodes_per_task, workers)
        return self.around(env, num_tasks, episodes_per_task)

    def around(self, env: BatchedEnv, num_tasks: int, episodes: int) -> TaskConditionedEnv:
        """An environment of the other distribution, told. It is still its owner's to close."""
        return TaskConditionedEnv(env, (num_tasks, episodes, self.width))

    def describe(self, task: Task) -> str:
        return self._distribution.describe(task)


class TaskConditionedEnv:
    """K x E environments that show their tasks' numbers. Its steps are not halved into parts."""

    def __init__(self, env: BatchedEnv, shape: tuple[int, int, int]):
        """`shape` is K, E and the numbers in a task."""
        self._env, self._numbers = env, np.zeros(shape, np.float32)

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """
        Raises:
            UserError: for a task with more or fewer numbers than others.
        """
        self._env.set_tasks(tasks)
        width = self._numbers.shape[-1]
        for own, task in zip(self._numbers, tasks, strict=True):
            numbers = numbers_of(task)
            if len(numbers) != width:
                raise UserError(
                    f"the task {dict(task)} has {len(numbers)} numbers, another had {width}\n"
                    "an oracle's observations have one width: give lists of one length"
                )
            own[:] = numbers

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        return self._told(self._env.reset(seeds))

    def step(self, actions: np.ndarray) -> StepResult:
        step = self._env.step(actions)
        return step._replace(obs=self._told(step.obs))

    def close(self) -> None:
        self._env.close()

    def _told(self, obs: np.ndarray) -> np.ndarray:
        return np.concatenate([obs, self._numbers], axis=-1)


def numbers_of(task: Task) -> list[float]:
    """Every number in a task, by the order of its names.

    Raises:
        UserError: for one that tells nothing: text, or an integer that float32 does not hold.
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
            f"the task's {place} is {value!r}, no number that an oracle could be told\n"
            "give it as a number or a list of them, or choose another agent"
        )
    elif isinstance(value, int | np.integer) and abs(value) > MAX_INTEGER:
        raise UserError(
            f"the task's {place} is {value}: it numbers tasks, and tells an oracle nothing\n"
            "give what the task consists of, or choose another agent"
        )
    else:
        yield float(value)
