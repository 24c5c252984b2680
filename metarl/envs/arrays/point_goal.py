"""2-D navigation: a point moves to a goal that the observation does not show.

The MAML paper's own code (arXiv:1703.03400, section 5.3; cbfinn/maml_rl point_env_randgoal.py):
start at the origin, goal U(-0.5, 0.5)^2, observation the position, action in [-1, 1]^2 clipped
and scaled by 0.1, reward minus the distance after the move; the episode ends when both
coordinates are within 0.01 of the goal.
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
"""The largest move of one step in each coordinate."""
TOLERANCE = 0.01
"""An episode ends when both coordinates are closer to the goal than this."""
SPREAD = 0.5
"""Goals are U(-SPREAD, SPREAD) in each coordinate."""


class PointEnv:
    """K x E points; only their goals are random."""

    def __init__(self, spec: EnvSpec, num_tasks: int, episodes_per_task: int):
        self.spec = spec
        self._goals = np.zeros((num_tasks, 1, 2))
        self._position = np.zeros((num_tasks, episodes_per_task, 2))
        self._ended = np.zeros((num_tasks, episodes_per_task), dtype=bool)
        self._steps = 0

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        check_number(tasks, len(self._goals))
        goals = np.array([task["goal"] for task in tasks], dtype=np.float64)
        self._goals = goals.reshape(len(self._goals), 1, 2)

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Moves all points to the origin; the seeds are not used."""
        self._position[:] = 0.0
        self._ended[:] = False
        self._steps = 0
        return self._position.astype(np.float32)

    def step(self, actions: np.ndarray) -> StepResult:
        self._position += STRIDE * np.clip(actions, -1.0, 1.0, dtype=np.float64)
        self._steps += 1
        offset = self._position - self._goals
        near = (np.abs(offset) < TOLERANCE).all(axis=-1)
        terminated = near & ~self._ended
        self._ended |= near
        truncated = np.full(near.shape, self._steps >= self.spec.horizon) & ~self._ended
        return StepResult(
            obs=self._position.astype(np.float32),
            rewards=-np.hypot(offset[..., 0], offset[..., 1]).astype(np.float32),
            terminated=terminated,
            truncated=truncated,
            success=terminated.copy(),
        )

    def close(self) -> None:
        pass


class PointGoal:
    """Tasks {"goal": [x, y]}.

    The splits cut the square into 1024 thin strips along x; every fourth is for testing.
    """

    opens_fast = True
    task_bounds: ClassVar[Mapping[str, Bounds]] = {"goal": Between(-SPREAD, SPREAD)}

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
        """Draws tasks; `stratified`: one goal in each of num_tasks equal parts of x, and of y."""
        x = quantiles(num_tasks, rng, split, draw)
        y = shares(num_tasks, rng, draw)
        goals = SPREAD * (2.0 * np.stack([x, y], axis=1) - 1.0)
        return [{"goal": goal} for goal in goals.tolist()]

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> PointEnv:
        del workers
        return PointEnv(self.spec, num_tasks, episodes_per_task)

    def describe(self, task: Task) -> str:
        x, y = task["goal"]
        return f"({x:+.2f}, {y:+.2f})"
