"""Families of tasks for robots: a velocity, a direction, an angle in the plane, or a goal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import cos, degrees, pi, sin
from typing import Protocol

import numpy as np

from metarl.envs.splits import check_draw, check_split, quantiles, shares
from metarl.envs.task_bounds import Between, Bounds, Disc, OneOf
from metarl.types import BatchedEnv, EnvSpec, Task, Workers


class Family(Protocol):
    """Tasks of one robot."""

    @property
    def bounds(self) -> Mapping[str, Bounds]:
        """Values that training's tasks have."""
        ...

    def sample(self, num: int, rng: np.random.Generator, split: str, draw: str) -> list[Task]: ...

    def goals(self, tasks: Sequence[Task]) -> np.ndarray:
        """Returns what a reward needs of the tasks, [K] or [K, 2]."""
        ...

    def describe(self, task: Task) -> str: ...


class RunTask(Family, Protocol):
    """Tasks whose reward depends on the velocity along x."""

    def progress(self, velocity: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Returns the task's part of the rewards, [N], from velocities and goals [N]."""
        ...


@dataclass(frozen=True)
class Velocity:
    """Tasks {"velocity": v*}, U(0, max_velocity) m/s; the splits share no task (splits.py)."""

    max_velocity: float
    bonus: float = 0.0
    """Added to each reward: 1 if a fall ends the episode, so that falling does not pay."""

    @property
    def bounds(self) -> Mapping[str, Bounds]:
        return {"velocity": Between(0.0, self.max_velocity)}

    def sample(self, num: int, rng: np.random.Generator, split: str, draw: str) -> list[Task]:
        targets = self.max_velocity * quantiles(num, rng, split, draw)
        return [{"velocity": velocity} for velocity in targets.tolist()]

    def goals(self, tasks: Sequence[Task]) -> np.ndarray:
        """Returns the target velocities [K] for `progress`."""
        return np.array([task["velocity"] for task in tasks], dtype=np.float64)

    def progress(self, velocity: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return self.bonus - np.abs(velocity - goal)

    def describe(self, task: Task) -> str:
        return f"v*={task['velocity']:.2f}"


@dataclass(frozen=True)
class Direction:
    """Tasks {"direction": +1 or -1}.

    There are only these two, so both splits have both, as is usual in the field.
    """

    @property
    def bounds(self) -> Mapping[str, Bounds]:
        return {"direction": OneOf((1.0, -1.0))}

    def sample(self, num: int, rng: np.random.Generator, split: str, draw: str) -> list[Task]:
        """Draws directions independently, or alternates them if `stratified`."""
        return [{"direction": 1.0 - 2.0 * coin} for coin in _coins(num, rng, split, draw)]

    def goals(self, tasks: Sequence[Task]) -> np.ndarray:
        """Returns the target directions [K] for `progress`."""
        return np.array([task["direction"] for task in tasks], dtype=np.float64)

    def progress(self, velocity: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return velocity * goal

    def describe(self, task: Task) -> str:
        return "forward" if task["direction"] > 0 else "backward"


@dataclass(frozen=True)
class Angle:
    """Tasks {"angle": radians from the x axis}, in the plane of the floor.

    `two` has the angles 0 and pi alone, in both splits. Else they are U(0, 2 pi), and the splits
    share no task (splits.py).
    """

    two: bool = False

    @property
    def bounds(self) -> Mapping[str, Bounds]:
        return {"angle": OneOf((0.0, pi)) if self.two else Between(0.0, 2.0 * pi)}

    def sample(self, num: int, rng: np.random.Generator, split: str, draw: str) -> list[Task]:
        if self.two:
            return [{"angle": pi * coin} for coin in _coins(num, rng, split, draw)]
        angles = 2.0 * pi * quantiles(num, rng, split, draw)
        return [{"angle": angle} for angle in angles.tolist()]

    def goals(self, tasks: Sequence[Task]) -> np.ndarray:
        """Returns unit vectors [K, 2] along the angles."""
        return np.array([(cos(task["angle"]), sin(task["angle"])) for task in tasks])

    def describe(self, task: Task) -> str:
        return f"{degrees(task['angle']):.0f} degrees"


@dataclass(frozen=True)
class Place:
    """Tasks {"goal": [x, y]}, m: uniform in a disc round the origin.

    The splits cut the disc into 1024 sectors; every fourth is for testing.
    """

    radius: float

    @property
    def bounds(self) -> Mapping[str, Bounds]:
        return {"goal": Disc(self.radius)}

    def sample(self, num: int, rng: np.random.Generator, split: str, draw: str) -> list[Task]:
        """Draws goals; `stratified`: one in each of `num` equal sectors, and of `num` rings."""
        angle = 2.0 * pi * quantiles(num, rng, split, draw)
        distance = self.radius * np.sqrt(shares(num, rng, draw))
        goals = distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return [{"goal": goal} for goal in goals.tolist()]

    def goals(self, tasks: Sequence[Task]) -> np.ndarray:
        """Returns the places [K, 2], m."""
        return np.array([task["goal"] for task in tasks], dtype=np.float64).reshape(-1, 2)

    def describe(self, task: Task) -> str:
        x, y = task["goal"]
        return f"({x:+.2f}, {y:+.2f})"


@dataclass(frozen=True)
class Runs:
    """A family of tasks for one robot; implements TaskDistribution."""

    opens_fast = True
    """Whether a worker may open environments anew for each meta-batch, for other numbers."""

    spec: EnvSpec
    tasks: Family
    open_env: Callable[[int, int, Workers], BatchedEnv]
    """Called with num_tasks, episodes_per_task, workers."""

    @property
    def task_bounds(self) -> Mapping[str, Bounds]:
        return self.tasks.bounds

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[Task]:
        return self.tasks.sample(num_tasks, rng, split, draw)

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> BatchedEnv:
        return self.open_env(num_tasks, episodes_per_task, workers)

    def describe(self, task: Task) -> str:
        return self.tasks.describe(task)


def _coins(num: int, rng: np.random.Generator, split: str, draw: str) -> list[int]:
    """Draws zeros and ones independently, or alternates them if `stratified`."""
    check_split(split)
    coins = rng.integers(2, size=num)
    if check_draw(draw) == "stratified":
        coins = np.arange(num) % 2
    return coins.tolist()
