"""One task for other libraries: a gymnasium environment and a VecEnv of Stable-Baselines3.

    PPO("MlpPolicy", TaskVecEnv(distribution, task, num_envs=4)).learn(10_000)

A BatchedEnv resets all its episodes together, but a VecEnv resets each episode when it ends. So
every copy is a BatchedEnv of one episode, and the copies are stepped one after the other.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from metarl import keys
from metarl.types import Task, TaskDistribution, Workers

ALONE = Workers()
"""The calling process steps the environment."""


class TaskEnv(gymnasium.Env[np.ndarray, Any]):
    """One task of a distribution; its n-th episode depends on the seed and n alone."""

    def __init__(
        self,
        distribution: TaskDistribution,
        task: Task,
        workers: Workers = ALONE,
        seed: int = 0,
        copy: int = 0,
    ):
        """`copy` is a number that makes environments with the same seed differ."""
        self._has_success = distribution.spec.has_success
        self.observation_space = distribution.spec.observation_space
        self.action_space = distribution.spec.action_space
        self._env = distribution.open(1, 1, workers)
        self._env.set_tasks([task])
        self._seed, self._copy, self._episode = seed, copy, 0
        self._over, self._solved = True, False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins the next episode, or with `seed` the first one of that seed; ignores `options`."""
        super().reset(seed=seed)
        if seed is not None:
            self._seed, self._episode = seed, 0
        key = self._seed, keys.Purpose.RESET, keys.Phase.TASK_ENV, self._copy, self._episode
        self._episode += 1
        self._over, self._solved = False, False
        return self._env.reset(keys.seeds(1, 1, *key))[0, 0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Takes one step; `info["is_success"]`, if defined: solved at this step or before.

        Raises:
            ResetNeeded: if the episode is over, or before the first reset.
        """
        if self._over:
            raise ResetNeeded("the episode is over, or none has begun; call reset() first")
        step = self._env.step(np.asarray(action, self.action_space.dtype).reshape(1, 1, -1))
        terminated, truncated = bool(step.terminated[0, 0]), bool(step.truncated[0, 0])
        self._over = terminated or truncated
        self._solved |= bool(step.success[0, 0])
        info = {"is_success": self._solved} if self._has_success else {}
        return step.obs[0, 0], float(step.rewards[0, 0]), terminated, truncated, info

    def close(self) -> None:
        self._env.close()


class TaskVecEnv(DummyVecEnv):
    """`num_envs` copies of one task; each resets itself when its episode ends.

    As usual in Stable-Baselines3, `infos` then hold `terminal_observation` and
    `TimeLimit.truncated`, and its Monitor adds each episode's return, which `learn` logs.
    """

    def __init__(
        self,
        distribution: TaskDistribution,
        task: Task,
        num_envs: int = 1,
        workers: Workers = ALONE,
        seed: int = 0,
    ):
        def copy(index: int) -> Monitor:
            return Monitor(TaskEnv(distribution, task, workers, seed, index))

        super().__init__([partial(copy, index) for index in range(num_envs)])
