"""Task families for running robots: run at a given velocity, or in a given direction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metarl.envs.splits import check_draw, check_split, quantiles
from metarl.envs.task_bounds import Between, Bounds, OneOf
from metarl.types import BatchedEnv, EnvSpec, Task, Workers


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
        shares = quantiles(num, rng, split, draw)
        return [{"velocity": velocity} for velocity in (self.max_velocity * shares).tolist()]

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
        check_split(split)
        coins = rng.integers(2, size=num)
        if check_draw(draw) == "stratified":
            coins = np.arange(num) % 2
        return [{"direction": 1.0 - 2.0 * coin} for coin in coins.tolist()]

    def goals(self, tasks: Sequence[Task]) -> np.ndarray:
        """Returns the target directions [K] for `progress`."""
        return np.array([task["direction"] for task in tasks], dtype=np.float64)

    def progress(self, velocity: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return velocity * goal

    def describe(self, task: Task) -> str:
        return "forward" if task["direction"] > 0 else "backward"


RunTask = Velocity | Direction


@dataclass(frozen=True)
class Runs:
    """A family of tasks for one robot; implements TaskDistribution."""

    opens_fast = True
    """Whether a worker may open environments anew for each meta-batch, for other numbers."""

    spec: EnvSpec
    tasks: RunTask
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
