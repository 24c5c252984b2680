"""Navigation in a grid to a cell that the observation does not show.

VariBAD's first experiment (arXiv:1910.08348, section 5.1; lmzintgraf/varibad gridworld.py): 5 x 5
cells, start in a corner, a goal that is neither the start nor one of the three cells next to it,
five actions (stay, up, right, down, left), reward +1 for each step that ends on the goal and -0.1
for each other. An episode has 15 steps and does not end on the goal; the published trial has four.
The observation is the cell's place (x, y).

Both splits have all 21 goals, as published: what is tested is the search, not generalisation.
`grid_optima.py` computes the Bayes-optimal policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete

from metarl.envs.splits import check_draw, check_split, turns
from metarl.envs.task_bounds import Bounds, OneOf
from metarl.types import EnvSpec, StepResult, Task, Workers, check_number

SIDE = 5
"""Cells along each side."""
MOVES = np.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]])
"""Change of (x, y) of each action: stay, up, right, down, left."""
ON_GOAL, ELSEWHERE = 1.0, -0.1
"""Rewards of a step by the cell in which it ends."""


def goals_of(side: int) -> list[tuple[int, int]]:
    """Returns the cells that may be the goal, in the order of x, then y."""
    near = {(0, 0), (0, 1), (1, 0), (1, 1)}
    return [(x, y) for x in range(side) for y in range(side) if (x, y) not in near]


GOALS = goals_of(SIDE)


class GridEnv:
    """K x E walkers in a grid; only their goals differ."""

    def __init__(self, spec: EnvSpec, num_tasks: int, episodes_per_task: int):
        self.spec = spec
        self._goals = np.zeros((num_tasks, 1, 2), np.int64)
        self._place = np.zeros((num_tasks, episodes_per_task, 2), np.int64)
        self._steps = 0

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        check_number(tasks, len(self._goals))
        goals = np.array([task["goal"] for task in tasks], dtype=np.int64)
        self._goals = goals.reshape(self._goals.shape)

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Moves all walkers to the corner (0, 0); the seeds are not used."""
        self._place[:] = 0
        self._steps = 0
        return self._place.astype(np.float32)

    def step(self, actions: np.ndarray) -> StepResult:
        self._place = np.clip(self._place + MOVES[actions[..., 0]], 0, SIDE - 1)
        self._steps += 1
        there = (self._place == self._goals).all(axis=-1)
        return StepResult(
            obs=self._place.astype(np.float32),
            rewards=np.where(there, ON_GOAL, ELSEWHERE).astype(np.float32),
            terminated=np.zeros_like(there),
            truncated=np.full_like(there, self._steps >= self.spec.horizon),
            success=there,
        )

    def close(self) -> None:
        pass


class GridNavigation:
    """Tasks {"goal": [x, y]} with one of 21 cells; both splits have all of them."""

    opens_fast = True
    task_bounds: ClassVar[Mapping[str, Bounds]] = {
        "goal": OneOf([list(goal) for goal in GOALS], only=True)
    }

    def __init__(self, name: str, variant: str, horizon: int):
        del variant
        place = Box(0.0, SIDE - 1.0, (2,), np.float32)
        self.spec = EnvSpec(name, place, Discrete(len(MOVES)), horizon, has_success=True)

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[Task]:
        """Draws tasks; `stratified`: no goal again until all have been drawn."""
        check_split(split)
        if check_draw(draw) == "stratified":
            chosen = turns(len(GOALS), num_tasks, rng)
        else:
            chosen = rng.integers(len(GOALS), size=num_tasks)
        return [{"goal": list(GOALS[one])} for one in chosen.tolist()]

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> GridEnv:
        del workers
        return GridEnv(self.spec, num_tasks, episodes_per_task)

    def describe(self, task: Task) -> str:
        x, y = task["goal"]
        return f"goal ({x}, {y})"
