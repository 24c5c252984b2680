"""Probe tasks with actions in a Box, whose optimum is a known number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from gymnasium.spaces import Box

from metarl.types import EnvSpec, StepResult, Task, Workers


class BoxProbeEnv:
    """K x E copies of a probe of `horizon` steps, all of whose observations are the first one."""

    seen: ClassVar[Box]
    acted: ClassVar[Box]
    horizon: ClassVar[int]

    def __init__(self, num_tasks: int, episodes_per_task: int):
        self.shape = num_tasks, episodes_per_task
        self.number = np.zeros((num_tasks, 1))
        """The task's number, in [0, 1]."""
        self.coin, self.t = np.zeros(self.shape, int), 0
        """0 or 1, by the episode's seed."""

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        self.number = np.array([[task["number"]] for task in tasks])

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        self.coin, self.t = (seeds % np.uint64(2)).astype(int), 0
        return self.sees()

    def step(self, actions: np.ndarray) -> StepResult:
        rewards = self.pays(actions.astype(np.float64)).astype(np.float32)
        self.t += 1
        never = np.zeros(self.shape, bool)
        return StepResult(self.sees(), rewards, never, ~never & (self.t >= self.horizon), never)

    def close(self) -> None:
        pass

    def sees(self) -> np.ndarray:
        """The observation, [K, E, obs_dim]."""
        return np.stack([1 - self.coin, self.coin], -1).astype(np.float32)

    def pays(self, actions: np.ndarray) -> np.ndarray:
        """The reward [K, E] of actions [K, E, act_dim] in step t."""
        raise NotImplementedError


class BoxProbe:
    """The task distribution of a probe: {"number": evenly from 0 to 1}."""

    def __init__(self, env: type[BoxProbeEnv]):
        self.env = env
        self.spec = EnvSpec(env.__name__, env.seen, env.acted, env.horizon)

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[Task]:
        return [{"number": (k + 0.5) / num_tasks} for k in range(num_tasks)]

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> BoxProbeEnv:
        return self.env(num_tasks, episodes_per_task)

    def describe(self, task: Task) -> str:
        return f"{task['number']:.2f}"


class Noise(BoxProbeEnv):
    """Pays precision in one state and noise in the other, in all tasks.

    An episode is two steps in one state. In the calm one each pays -a^2. In the other the second
    pays -(|a1 - a2| - APART)^2, and a policy that knows neither the step nor a1 can make them
    differ only by its noise. With deviation s, |a1 - a2| has the mean 2 s / sqrt(pi) and the mean
    square 2 s^2. So the best s there is APART / sqrt(pi), and 0 in the calm state.
    """

    seen = Box(0.0, 1.0, (2,))
    acted = Box(-9.0, 9.0, (1,))
    horizon = 2
    APART = 2.0

    best_std = APART / math.sqrt(math.pi)
    optimum = -0.5 * APART**2 * (1.0 - 2.0 / math.pi)
    """The best mean return: -0.73. Half of the episodes are calm, and cost nothing."""
    best_shared = -0.5 * APART**2 * (1.0 - 1.0 / math.pi)
    """The best with one deviation, half of `best_std`, in both states: -1.36."""

    def pays(self, actions: np.ndarray) -> np.ndarray:
        action = actions[..., 0]
        if self.t == 0:
            self.first = action
            return np.where(self.coin == 0, -(action**2), 0.0)
        noise = -((np.abs(action - self.first) - self.APART) ** 2)
        return np.where(self.coin == 0, -(action**2), noise)


class FarBox(BoxProbeEnv):
    """Pays -|a - goal|^2 in halves of the box's width, in a box that does not hold 0.

    The task's goal is on the diagonal of the box. Actions are clipped to the box, so that where a
    policy is outside of it, what it does changes nothing. The middle costs 1/3 on average over
    [0, 1] in either dimension, the corner next to 0 costs 4/3, and the optimum is 0.
    """

    seen = Box(0.0, 1.0, (2,))
    acted = Box(np.array([1.5, 2.5], np.float32), np.array([3.5, 6.5], np.float32))
    horizon = 1

    def pays(self, actions: np.ndarray) -> np.ndarray:
        box = self.acted
        inside = np.clip(actions, box.low, box.high)
        goal = box.low + self.number[..., None] * (box.high - box.low)
        return -(((inside - goal) / (0.5 * (box.high - box.low))) ** 2).sum(-1)


class OneSidedBox(FarBox):
    """Far-off goals; the second dimension has no upper bound, and its goal is from 0 to 1."""

    acted = Box(np.array([1.5, 0.0], np.float32), np.array([3.5, np.inf], np.float32))

    def pays(self, actions: np.ndarray) -> np.ndarray:
        inside = np.clip(actions, self.acted.low, self.acted.high)
        goal = np.stack([1.5 + 2.0 * self.number, self.number], -1)
        return -((inside - goal) ** 2).sum(-1)
