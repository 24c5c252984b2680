"""A BatchedEnv over `MujocoBatch`: handles seeds, tasks, the horizon, endings and divergence.

A robot (half_cheetah.py, ant.py, ...) subclasses `MujocoTasks` and defines observations, rewards,
starts and terminations. Where tasks differ in the model (`OwnModel`), each has a copy of it.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence

import gymnasium
import mujoco
import numpy as np

from metarl.envs.mujoco.batch import MujocoBatch
from metarl.envs.mujoco.own_models import OwnModel, TaskModels
from metarl.envs.mujoco.run_tasks import Family
from metarl.errors import DivergedError
from metarl.sampling.rows import bad_action
from metarl.types import EnvSpec, StepResult, Task, Workers, check_number


def model_path(file: str) -> str:
    """Returns the path of one of gymnasium's MuJoCo models."""
    return os.path.join(os.path.dirname(gymnasium.__file__), "envs", "mujoco", "assets", file)


class MujocoTasks(ABC):
    """K x E episodes of one MuJoCo model; internal arrays have K*E rows, task by task.

    `sampled` [K*E, nu] is the last step's action before it is clipped, in units of the control.
    """

    def __init__(
        self,
        spec: EnvSpec,
        model: mujoco.MjModel,
        frame_skip: int,
        family: Family,
        num_tasks: int,
        episodes_per_task: int,
        workers: Workers,
        action_scale: float = 1.0,
    ):
        size = num_tasks * episodes_per_task
        self.spec, self.family = spec, family
        self.batch = batch = MujocoBatch(model, size, frame_skip, max(1, workers.count))
        self.shape = (num_tasks, episodes_per_task)
        self.tasks: list[Task] = []
        self.goal = np.zeros(size)
        self._models = TaskModels(model, family) if isinstance(family, OwnModel) else None
        self._before = np.zeros((size, 2))
        self._low, self._high = batch.model.actuator_ctrlrange.T.copy()
        self._action_scale = action_scale
        self._control, self.sampled = np.zeros((2, batch.size, batch.model.nu))
        self._steps = 0
        self._ended = np.zeros(batch.size, dtype=bool)
        self.live: np.ndarray | None = None
        """Rows that the last step simulated; None: all."""

    # Methods that a robot defines.

    @abstractmethod
    def start(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws the first state of an episode: qpos [nq], qvel [nv]."""

    @abstractmethod
    def observe(self) -> np.ndarray:
        """Returns the observations of the current state, [K*E, obs_dim] float32."""

    @abstractmethod
    def reward(self, control: np.ndarray) -> np.ndarray:
        """Returns the rewards [K*E] of the step just taken with `control` [K*E, nu]."""

    def fell(self) -> np.ndarray | None:
        """Returns whether the current state ends the episode, [K*E] bool; None: none ever does."""
        return None

    def velocity(self) -> np.ndarray:
        """Returns the mean rates of the first two coordinates over the last step, [K*E, 2], m/s."""
        return (self.batch.qpos[:, :2] - self._before) / self.batch.seconds_per_step

    def x_velocity(self) -> np.ndarray:
        """Returns the root's mean velocity along x over the last step, [K*E] in m/s."""
        return (self.batch.qpos[:, 0] - self._before[:, 0]) / self.batch.seconds_per_step

    # Methods of BatchedEnv.

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        check_number(tasks, self.shape[0])
        self.tasks = list(tasks)
        self.goal = np.repeat(self.family.goals(tasks), self.shape[1], axis=0)
        if self._models is not None:
            self.batch.use_models(self._models.of(tasks, self.shape[1]))

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        model, size = self.batch.model, self.batch.size
        qpos, qvel = np.empty((size, model.nq)), np.empty((size, model.nv))
        for row, seed in enumerate(np.asarray(seeds, dtype=np.uint64).reshape(size).tolist()):
            qpos[row], qvel[row] = self.start(np.random.Generator(np.random.PCG64(seed)))
        self.batch.reset(qpos, qvel)
        self._steps = 0
        self._ended[:] = False
        self.live = None
        return self._grid(self.observe())

    def step(self, actions: np.ndarray) -> StepResult:
        control, sampled = self._control, self.sampled
        np.divide(actions.reshape(control.shape), self._action_scale, out=sampled, dtype=np.float64)
        np.clip(sampled, self._low, self._high, out=control)
        if not np.isfinite(sampled).all():
            # MuJoCo would replace nan by zero, and a broken policy would go unnoticed.
            raise bad_action(self.spec.name, actions, self.tasks, self._steps + 1)
        self._before[:] = self.batch.qpos[:, :2]
        self.live = np.flatnonzero(~self._ended) if self._ended.any() else None
        diverged = self.batch.step(control, self.live)
        self._steps += 1
        if len(diverged):
            task, episode = divmod(int(diverged[0]), self.shape[1])
            raise DivergedError(self.spec.name, self.tasks[task], episode, self._steps, task)
        obs, rewards = self._grid(self.observe()), self._grid(self.reward(control))
        terminated, truncated = self._endings()
        success = np.zeros(self.shape, dtype=bool)
        return StepResult(obs, rewards.astype(np.float32), terminated, truncated, success)

    def close(self) -> None:
        self.batch.close()

    def _endings(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns `terminated` and `truncated`, [K, E]; one of them is true once per episode."""
        terminated = np.zeros(self.batch.size, dtype=bool)
        fell = self.fell()
        if fell is not None:
            np.logical_and(fell, ~self._ended, out=terminated)
            self._ended |= fell
        if self._steps < self.spec.horizon:
            truncated = np.zeros(self.batch.size, dtype=bool)
        else:
            truncated = ~self._ended
            self._ended[:] = True
        return self._grid(terminated), self._grid(truncated)

    def _grid(self, rows: np.ndarray) -> np.ndarray:
        return rows.reshape(*self.shape, *rows.shape[1:])
