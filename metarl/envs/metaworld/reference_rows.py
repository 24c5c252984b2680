"""metaworld's own environments as rows of the worker pool: the slow reference engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from metarl.sampling.one_by_one import RowFactory, RowStep
from metarl.sampling.rows import DIVERGED, RowError, faults_of
from metarl.types import Task

if TYPE_CHECKING:  # workers import metaworld with their first task
    from metaworld.sawyer_xyz_env import SawyerXYZEnv


@dataclass(frozen=True)
class ReferenceRows(RowFactory):
    """Makes the rows; is pickled and sent to the workers."""

    rand_vecs: Mapping[str, Mapping[str, np.ndarray]]
    """Split -> class -> [50, d]."""
    reward_version: str
    horizon: int

    def make(self) -> ReferenceRow:
        return ReferenceRow(self)

    def decode(self, actions: np.ndarray) -> np.ndarray:
        return np.clip(actions, np.float32(-1), np.float32(1))


class ReferenceRow:
    """One environment, made again when a task has another class."""

    def __init__(self, rows: ReferenceRows):
        self._rows, self._name, self._steps = rows, "", 0
        self._env: SawyerXYZEnv | None = None

    def set_task(self, task: Task) -> None:
        from metarl.envs.metaworld.snapshots import reference, set_goal

        name = task["class"]
        if self._env is None or name != self._name:
            self.close()
            with faults_of("constructor"):
                self._env = reference(name, self._rows.reward_version)
            self._name = name
        with faults_of("set_task"):
            set_goal(self._env, self._rows.rand_vecs[task["split"]][name][task["goal"]])

    def reset(self, seed: int) -> np.ndarray:
        """Resets the environment; `seed` is not used, since a reset depends on the task alone."""
        assert self._env is not None
        self._steps = 0
        with faults_of("reset"):
            obs, _ = self._env.reset()
        return obs.astype(np.float32)

    def step(self, action: np.ndarray) -> RowStep:
        assert self._env is not None
        self._steps += 1
        data, passing = self._env.data, self._env.dt
        due = data.time + passing
        obs, reward, _, _, info = self._env.step(action)
        if abs(data.time - due) > 0.1 * passing:  # MuJoCo reset an unstable state
            raise RowError(DIVERGED, "the simulation became unstable")
        over = self._steps >= self._rows.horizon
        return obs.astype(np.float32), float(reward), False, over, bool(info["success"])

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None
