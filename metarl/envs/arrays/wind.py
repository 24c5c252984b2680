"""A point robot in a wind that shifts every move and that the observation does not show.

The task of Dorfman et al. (arXiv:2008.02598) as in the code of Ni et al. (arXiv:2110.05038;
twni2016/pomdp-baselines wind.py): start at the origin, a goal at (0, 1) that is the same in all
tasks, wind U(-0.08, 0.08)^2 added to every move, observation the position, action in [-1, 1]^2
clipped and scaled by 0.1, reward 1 for each step that ends within 0.03 of the goal, else 0. An
episode has 75 steps and does not end early.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from gymnasium.spaces import Box

from metarl.envs.splits import quantiles, shares
from metarl.envs.task_bounds import Between, Bounds
from metarl.types import EnvSpec, StepResult, Task, Workers, check_number

STRIDE = 0.1
"""The largest move of one step in each coordinate, before the wind."""
STRONGEST = 0.08
"""The wind is U(-STRONGEST, STRONGEST) in each coordinate."""
GOAL = np.array([0.0, 1.0])
RADIUS = 0.03
"""Distance from the goal within which a step is rewarded."""


class WindEnv:
    """K x E points; only the wind differs."""

    def __init__(self, spec: EnvSpec, num_tasks: int, episodes_per_task: int):
        self.spec = spec
        self._wind = np.zeros((num_tasks, 1, 2))
        self._position = np.zeros((num_tasks, episodes_per_task, 2))
        self._steps = 0

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        check_number(tasks, len(self._wind))
        wind = np.array([task["wind"] for task in tasks], dtype=np.float64)
        self._wind = wind.reshape(self._wind.shape)

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Moves all points to the origin; the seeds are not used."""
        self._position[:] = 0.0
        self._steps = 0
        return self._position.astype(np.float32)

    def step(self, actions: np.ndarray) -> StepResult:
        move = STRIDE * np.clip(actions, -1.0, 1.0, dtype=np.float64)
        self._position = self._position + move + self._wind
        self._steps += 1
        offset = self._position - GOAL
        there = np.hypot(offset[..., 0], offset[..., 1]) <= RADIUS
        return StepResult(
            obs=self._position.astype(np.float32),
            rewards=there.astype(np.float32),
            terminated=np.zeros_like(there),
            truncated=np.full_like(there, self._steps >= self.spec.horizon),
            success=there,
        )

    def close(self) -> None:
        pass


class Wind:
    """Tasks {"wind": [x, y]} a step; the splits cut x into 1024 parts, every fourth for testing."""

    opens_fast = True
    task_bounds: ClassVar[Mapping[str, Bounds]] = {"wind": Between(-STRONGEST, STRONGEST)}

    def __init__(self, name: str, variant: str, horizon: int):
        del variant
        self.spec = EnvSpec(
            name,
            Box(-np.inf, np.inf, (2,), np.float32),
            Box(-1.0, 1.0, (2,), np.float32),
            horizon,
            has_success=True,
        )

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[Task]:
        """Draws tasks; `stratified`: one wind in each of num_tasks equal parts of x, and of y."""
        x = quantiles(num_tasks, rng, split, draw)
        y = shares(num_tasks, rng, draw)
        winds = STRONGEST * (2.0 * np.stack([x, y], axis=1) - 1.0)
        return [{"wind": wind} for wind in winds.tolist()]

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> WindEnv:
        del workers
        return WindEnv(self.spec, num_tasks, episodes_per_task)

    def describe(self, task: Task) -> str:
        x, y = task["wind"]
        return f"({x:+.3f}, {y:+.3f})"
