"""metaworld's own environments as rows of the worker pool: the slow engine, and the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from metarl.sampling.rows import Outcome, faults_of
from metarl.types import Task


@dataclass(frozen=True)
class ReferenceRows:
    """Makes the rows; travels to the workers."""

    rand_vecs: Mapping[str, Mapping[str, np.ndarray]]
    """Split -> class -> [50, d]."""
    reward_version: str
    horizon: int

    def make(self) -> ReferenceRow:
        return ReferenceRow(self)

    def decode(self, actions: np.ndarray) -> np.ndarray:
        return np.clip(actions, np.float32(-1), np.float32(1))


class ReferenceRow:
    """One environment; another one for another class."""

    def __init__(self, rows: ReferenceRows):
        self._rows = rows
        self._name, self._env = "", None

    def set_task(self, task: Task) -> None:
        from metarl.envs.metaworld.snapshots import reference, set_goal

        with faults_of("constructor"):
            if task["class"] != self._name:
                self.close()
                self._env = reference(task["class"], self._rows.reward_version)
                self._name = task["class"]
        with faults_of("set_task"):
            set_goal(self._env, self._rows.rand_vecs[task["split"]][self._name][task["goal"]])

    def reset(self, seed: int) -> np.ndarray:
        """`seed` is not needed: a reset is a function of the task."""
        self._steps = 0
        with faults_of("reset"):
            obs, _ = self._env.reset()
        return obs.astype(np.float32)

    def step(self, action: np.ndarray) -> Outcome:
        self._steps += 1
        obs, reward, _, _, info = self._env.step(action)
        over = self._steps >= self._rows.horizon
        return obs.astype(np.float32), float(reward), False, over, bool(info["success"])

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._name, self._env = "", None
