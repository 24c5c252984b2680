"""Policies that are written down, and their play in the environments of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Protocol

import numpy as np

from metarl.types import StepResult, Task, TaskDistribution, Workers


class Scripted(Protocol):
    """Policy that acts in K x E trials of several episodes, and may remember all of a trial."""

    def begin(self, obs: np.ndarray) -> None:
        """Begins an episode that starts with `obs` [K, E, obs_dim]."""
        ...

    def act(self) -> np.ndarray:
        """Returns actions [K, E, act_dim]."""
        ...

    def see(self, step: StepResult) -> None:
        """Takes note of the step that the actions led to."""
        ...


class Memoryless:
    """Acts by the current observation alone: `chooses` maps obs [K, E, obs_dim] to actions
    [K, E, act_dim]."""

    def __init__(self, chooses: Callable[[np.ndarray], np.ndarray]):
        self._chooses = chooses

    def begin(self, obs: np.ndarray) -> None:
        self._obs = obs

    def act(self) -> np.ndarray:
        return self._chooses(self._obs)

    def see(self, step: StepResult) -> None:
        self._obs = step.obs


def play(
    distribution: TaskDistribution,
    policy: Scripted,
    tasks: Sequence[Task],
    trials: int = 1,
    episodes: int = 1,
    seed: int = 0,
) -> np.ndarray:
    """Returns the returns [episodes, K, trials] of trials of `episodes` episodes of each task."""
    rng = np.random.default_rng(seed)
    shape = (len(tasks), trials)
    found = np.zeros((episodes, *shape))
    with closing(distribution.open(*shape, Workers(0))) as env:
        env.set_tasks(tasks)
        for episode in range(episodes):
            policy.begin(env.reset(rng.integers(2**63, size=shape, dtype=np.uint64)))
            over = np.zeros(shape, dtype=bool)
            for _ in range(distribution.spec.horizon):
                step = env.step(policy.act())
                policy.see(step)
                found[episode] += np.where(over, 0.0, step.rewards)
                over |= step.terminated | step.truncated
    return found
