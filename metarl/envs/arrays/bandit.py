"""Bernoulli bandits: each of k arms pays 1 with its own probability.

RL2's first experiment (arXiv:1611.02779, section 3.1): probabilities U(0, 1), an episode of
`horizon` pulls, and nothing to observe except the rewards. The variant is the number of arms.
The observation is a constant 1, because layers without biases learn nothing from a 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete

from metarl.envs.splits import quantiles, shares
from metarl.envs.task_bounds import Between, Bounds
from metarl.types import EnvSpec, StepResult, Task, Workers, check_number


class BanditEnv:
    """K x E bandits; the observation is a constant 1."""

    def __init__(self, spec: EnvSpec, arms: int, num_tasks: int, episodes_per_task: int):
        self.spec = spec
        self._probabilities = np.zeros((num_tasks, 1, arms))
        self._thresholds = np.zeros((spec.horizon, num_tasks, episodes_per_task))
        """A pull pays if the arm's probability is above its threshold; arms share thresholds."""
        self._steps = 0

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        check_number(tasks, len(self._probabilities))
        probabilities = np.array([task["probabilities"] for task in tasks], dtype=np.float64)
        self._probabilities = probabilities.reshape(self._probabilities.shape)

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Draws every threshold of an episode from its seed, whichever arms will be pulled."""
        for (task, episode), seed in np.ndenumerate(seeds):
            rng = np.random.Generator(np.random.PCG64(int(seed)))
            self._thresholds[:, task, episode] = rng.random(self.spec.horizon)
        self._steps = 0
        return self._observe()

    def step(self, actions: np.ndarray) -> StepResult:
        chosen = np.take_along_axis(self._probabilities, actions, axis=-1)[..., 0]  # [K, E]
        paid = self._thresholds[min(self._steps, self.spec.horizon - 1)] < chosen
        self._steps += 1
        never = np.zeros_like(paid)
        return StepResult(
            obs=self._observe(),
            rewards=paid.astype(np.float32),
            terminated=never,
            truncated=np.full_like(paid, self._steps >= self.spec.horizon),
            success=never.copy(),
        )

    def close(self) -> None:
        pass

    def _observe(self) -> np.ndarray:
        return np.ones((*self._thresholds.shape[1:], 1), np.float32)


class Bandit:
    """Tasks {"probabilities": [p, ...]}.

    The splits share no probability of the first arm (splits.py); those of the other arms have the
    same distribution in both.
    """

    opens_fast = True
    task_bounds: ClassVar[Mapping[str, Bounds]] = {"probabilities": Between(0.0, 1.0, only=True)}

    def __init__(self, name: str, variant: str, horizon: int):
        self.arms = int(variant)
        self.spec = EnvSpec(name, Box(0.0, 1.0, (1,), np.float32), Discrete(self.arms), horizon)

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[Task]:
        """Draws tasks; `stratified`: each arm has one probability in each of num_tasks parts."""
        first = quantiles(num_tasks, rng, split, draw)
        others = [shares(num_tasks, rng, draw) for _ in range(self.arms - 1)]
        return [{"probabilities": row} for row in np.stack([first, *others], axis=1).tolist()]

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> BanditEnv:
        del workers
        return BanditEnv(self.spec, self.arms, num_tasks, episodes_per_task)

    def describe(self, task: Task) -> str:
        best = int(np.argmax(task["probabilities"]))
        return f"arm {best}: {task['probabilities'][best]:.2f}"
