"""2-D navigation to a goal on a half circle, with a reward near the goal alone.

PEARL's task (arXiv:1903.08254, section 6.3; katerakelly/oyster point_robot.py): start at the
origin, goal at distance 1 in a direction U(0, pi), observation the position, action in [-1, 1]^2
clipped and scaled by 0.1, reward 1 - distance to the goal where that is at most 0.2 after the move,
else 0. Episodes do not end early. PEARL trains on the dense reward, minus the distance everywhere,
which is the variant `dense`. Its episodes have 20 steps and its 100 directions are evenly spaced;
here they have 100 steps, as in VariBAD's code, and directions are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from gymnasium.spaces import Box

from metarl.envs.splits import quantiles
from metarl.envs.task_bounds import Between, Bounds
from metarl.types import EnvSpec, StepResult, Task, Workers, check_number

STRIDE = 0.1
"""The largest move of one step in each coordinate."""
RADIUS = 0.2
"""Distance from the goal within which a step is rewarded."""


def goals_at(angles: np.ndarray) -> np.ndarray:
    """Returns the goals [..., 2] in directions `angles` [...], in radians from the x axis."""
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def rewards_at(distance: np.ndarray, dense: bool) -> np.ndarray:
    """Returns the rewards of steps that end at these distances from the goal."""
    return -distance if dense else np.where(distance <= RADIUS, 1.0 - distance, 0.0)


class SparsePointEnv:
    """K x E points; only their goals differ."""

    def __init__(self, spec: EnvSpec, dense: bool, num_tasks: int, episodes_per_task: int):
        self.spec, self._dense = spec, dense
        self._goals = np.zeros((num_tasks, 1, 2))
        self._position = np.zeros((num_tasks, episodes_per_task, 2))
        self._steps = 0

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        check_number(tasks, len(self._goals))
        angles = np.array([task["angle"] for task in tasks], dtype=np.float64)
        self._goals = goals_at(angles)[:, None]

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Moves all points to the origin; the seeds are not used."""
        self._position[:] = 0.0
        self._steps = 0
        return self._position.astype(np.float32)

    def step(self, actions: np.ndarray) -> StepResult:
        self._position += STRIDE * np.clip(actions, -1.0, 1.0, dtype=np.float64)
        self._steps += 1
        offset = self._position - self._goals
        distance = np.hypot(offset[..., 0], offset[..., 1])
        return StepResult(
            obs=self._position.astype(np.float32),
            rewards=rewards_at(distance, self._dense).astype(np.float32),
            terminated=np.zeros(distance.shape, dtype=bool),
            truncated=np.full(distance.shape, self._steps >= self.spec.horizon),
            success=distance <= RADIUS,
        )

    def close(self) -> None:
        pass


class SparsePoint:
    """Tasks {"angle": radians}; the splits share no angle (splits.py)."""

    opens_fast = True
    task_bounds: ClassVar[Mapping[str, Bounds]] = {"angle": Between(0.0, float(np.pi))}

    def __init__(self, name: str, variant: str, horizon: int):
        self.dense = variant == "dense"
        self.spec = EnvSpec(
            name,
            Box(-np.inf, np.inf, (2,), np.float32),
            Box(-1.0, 1.0, (2,), np.float32),
            horizon,
            has_success=True,
            sparse=not self.dense,
        )

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[Task]:
        """Draws tasks; `stratified`: one direction in each of num_tasks equal parts."""
        angles = np.pi * quantiles(num_tasks, rng, split, draw)
        return [{"angle": angle} for angle in angles.tolist()]

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> SparsePointEnv:
        del workers
        return SparsePointEnv(self.spec, self.dense, num_tasks, episodes_per_task)

    def describe(self, task: Task) -> str:
        return f"{np.degrees(task['angle']):.0f} degrees"
