"""A family of tasks that differ in gravity."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from metarl.envs.splits import quantiles
from metarl.envs.task_bounds import Between, Bounds
from metarl.types import Task

EARTH = 9.81
"""The models' own gravity, m/s^2."""


@dataclass(frozen=True)
class Gravity:
    """Tasks {"gravity": g}, U(least, most) x 9.81 m/s^2; the splits share no task (splits.py)."""

    least: float = 0.5
    most: float = 1.5

    @property
    def bounds(self) -> Mapping[str, Bounds]:
        return {"gravity": Between(self.least * EARTH, self.most * EARTH)}

    def sample(self, num: int, rng: np.random.Generator, split: str, draw: str) -> list[Task]:
        times = self.least + (self.most - self.least) * quantiles(num, rng, split, draw)
        return [{"gravity": gravity} for gravity in (EARTH * times).tolist()]

    def put(self, task: Task, original: mujoco.MjModel, own: mujoco.MjModel) -> None:
        """Sets the model's gravity, which points down."""
        del original
        own.opt.gravity[2] = -task["gravity"]

    def goals(self, tasks: Sequence[Task]) -> np.ndarray:
        """Returns zeros [K]: the reward does not depend on the task."""
        return np.zeros(len(tasks))

    def progress(self, velocity: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return velocity

    def describe(self, task: Task) -> str:
        return f"g={task['gravity']:.2f} m/s2"
