"""Random MDPs with few states; tasks differ in transitions and rewards.

RL2's second experiment (arXiv:1611.02779, section 3.2): 10 states, 5 actions, transitions
Dirichlet(1, ..., 1), mean rewards N(1, 1) for each state and action with N(0, 1) added at each
step, episodes of 10 steps from state 0. The observation is the state, one-hot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Discrete

from metarl.envs.splits import HELD_OUT_EVERY, check_draw, check_split
from metarl.envs.task_bounds import Between, Bounds
from metarl.types import EnvSpec, StepResult, Task, Workers, check_number

STATES = 10
ACTIONS = 5
MDPS = 2**32
"""Number of tasks; a task is an integer below this."""
_SALT = 1611
"""Part of the seed of an MDP, so that no other generator has the same seed."""


class Mdp(NamedTuple):
    transitions: np.ndarray  # [S, A, S] probabilities of the next state
    rewards: np.ndarray  # [S, A] means


def mdp_of(task: Task) -> Mdp:
    """Returns the MDP of a task, drawn from the task's number."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([_SALT, task["mdp"]])))
    transitions = rng.dirichlet(np.ones(STATES), size=(STATES, ACTIONS))
    return Mdp(transitions, rng.normal(1.0, 1.0, size=(STATES, ACTIONS)))


class TabularEnv:
    """K x E episodes in the MDPs of K tasks."""

    def __init__(self, spec: EnvSpec, num_tasks: int, episodes_per_task: int):
        self.spec = spec
        shape = (num_tasks, episodes_per_task)
        self._reach = np.ones((num_tasks, STATES, ACTIONS, STATES))
        """Cumulative probabilities of the next state."""
        self._rewards = np.zeros((num_tasks, STATES, ACTIONS))
        self._state = np.zeros(shape, dtype=np.int64)
        self._shares = np.zeros((spec.horizon, *shape))
        self._noise = np.zeros((spec.horizon, *shape))
        self._steps = 0

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        check_number(tasks, len(self._rewards))
        mdps = [mdp_of(task) for task in tasks]
        self._rewards = np.stack([mdp.rewards for mdp in mdps])
        self._reach = np.cumsum([mdp.transitions for mdp in mdps], axis=-1)
        self._reach[..., -1] = 1.0  # or rounding could leave it below 1

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Moves all episodes to state 0 and draws their random numbers from their seeds."""
        for (task, episode), seed in np.ndenumerate(seeds):
            rng = np.random.Generator(np.random.PCG64(int(seed)))
            self._shares[:, task, episode] = rng.random(self.spec.horizon)
            self._noise[:, task, episode] = rng.standard_normal(self.spec.horizon)
        self._state[:] = 0
        self._steps = 0
        return self._observe()

    def step(self, actions: np.ndarray) -> StepResult:
        now = min(self._steps, self.spec.horizon - 1)
        visited = np.arange(len(self._state))[:, None], self._state, actions[..., 0]
        rewards = self._rewards[visited] + self._noise[now]
        self._state = (self._reach[visited] <= self._shares[now][..., None]).sum(axis=-1)
        self._steps += 1
        never = np.zeros(rewards.shape, dtype=bool)
        return StepResult(
            obs=self._observe(),
            rewards=rewards.astype(np.float32),
            terminated=never,
            truncated=np.full_like(never, self._steps >= self.spec.horizon),
            success=never.copy(),
        )

    def close(self) -> None:
        pass

    def _observe(self) -> np.ndarray:
        return np.eye(STATES, dtype=np.float32)[self._state]


class TabularMdp:
    """Tasks {"mdp": number}; every fourth number is held out for testing."""

    opens_fast = True
    task_bounds: ClassVar[Mapping[str, Bounds]] = {"mdp": Between(0, MDPS - 1, only=True)}

    def __init__(self, name: str, variant: str, horizon: int):
        del variant
        self.spec = EnvSpec(name, Box(0.0, 1.0, (STATES,), np.float32), Discrete(ACTIONS), horizon)

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[Task]:
        """Draws tasks; both values of `draw` do the same, since MDPs have no order to stratify."""
        check_draw(draw)
        rows = rng.integers(MDPS // HELD_OUT_EVERY, size=num_tasks)
        last = HELD_OUT_EVERY - 1
        column = rng.integers(last, size=num_tasks) if check_split(split) == "train" else last
        return [{"mdp": number} for number in (rows * HELD_OUT_EVERY + column).tolist()]

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> TabularEnv:
        del workers
        return TabularEnv(self.spec, num_tasks, episodes_per_task)

    def describe(self, task: Task) -> str:
        return f"MDP {task['mdp']}"
