"""T-mazes: a corridor whose end has two arms, of which a cue at its other end names the right one.

The passive and the active T-maze of Ni et al. 2023 (arXiv:2307.03864, section 4;
twni2016/Memory-RL tmaze.py, after Bakker 2001), with a corridor of `length` steps:

             arm +1                passive: starts on the cue C, length + 1 steps
    C-S- ... -J                    active:  starts on S beside the cue, length + 3 steps
             arm -1

* Actions: right, up, left, down. A step into a wall leaves the walker where it is.
* The observation is (0, arm) on the cue when the walker is there for the first time, (0, 0) in the
  corridor, (1, y) at the junction J and in the arms, where y is 0, +1 or -1. Places of the corridor
  look alike.
* The last step pays 1 if it ends in the right arm, else 0. Each step before it costs 1 / length if
  the walker is behind one who goes right all the time (in the active maze after its cue).

The episode is just long enough, and ends by itself after its last step. So `length` is chosen by
the horizon: length = horizon - 1 (passive) or horizon - 3 (active).

A task is the arm. All of its episodes have the same one, where the published environment draws it
anew each episode. So a test of memory plays trials of one episode (RL2 with `inner.steps` 0):
between episodes an agent could remember the arm by the reward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from gymnasium.spaces import Box, Discrete

from metarl.envs.splits import check_draw, check_split
from metarl.envs.task_bounds import Bounds, OneOf
from metarl.errors import UserError
from metarl.types import EnvSpec, StepResult, Task, Workers, check_number

MOVES = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
"""Change of (x, y) of each action: right, up, left, down."""
DETOUR = {"passive": 0, "active": 1}
"""Steps from the start to the cue."""


def moved(place: np.ndarray, action: np.ndarray, end: int) -> np.ndarray:
    """Returns the places [..., 2] after actions [...] in a maze whose junction is at x = `end`."""
    reached = place + MOVES[action]
    x, y = reached[..., 0], reached[..., 1]
    corridor = (y == 0) & (x >= 0) & (x <= end)
    arms = (x == end) & (np.abs(y) == 1)
    return np.where((corridor | arms)[..., None], reached, place)


class TMazeEnv:
    """K x E walkers; only the right arm differs."""

    def __init__(self, spec: EnvSpec, detour: int, num_tasks: int, episodes_per_task: int):
        shape = (num_tasks, episodes_per_task)
        self.spec, self._detour = spec, detour
        self._length = spec.horizon - 1 - 2 * detour
        self._end = detour + self._length
        """The junction's x; the cue's is 0."""
        self._arms = np.zeros((num_tasks, 1), np.int64)
        self._place = np.zeros((*shape, 2), np.int64)
        self._seen = np.zeros(shape, dtype=bool)
        self._steps = 0

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        check_number(tasks, len(self._arms))
        self._arms = np.array([task["arm"] for task in tasks], dtype=np.int64)[:, None]

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Moves all walkers to the start; the seeds are not used."""
        self._place[:] = self._detour, 0
        self._seen[:] = False
        self._steps = 0
        return self._observe()

    def step(self, actions: np.ndarray) -> StepResult:
        self._place = moved(self._place, actions[..., 0], self._end)
        self._steps += 1
        last = self._steps >= self.spec.horizon
        right = (self._place[..., 1] == self._arms) & last
        late = (self._place[..., 0] < self._steps - self._detour) & (not last)
        never = np.zeros_like(right)
        return StepResult(
            obs=self._observe(),
            rewards=(right - late / self._length).astype(np.float32),
            terminated=np.full_like(right, last),
            truncated=never,
            success=right,
        )

    def close(self) -> None:
        pass

    def _observe(self) -> np.ndarray:
        x, y = self._place[..., 0], self._place[..., 1]
        at_end, on_cue = x == self._end, x == 0
        cue = np.where(on_cue & ~self._seen, self._arms, 0)
        self._seen |= on_cue
        return np.stack([at_end, np.where(at_end, y, cue)], axis=-1).astype(np.float32)


class TMaze:
    """Tasks {"arm": 1} and {"arm": -1}; both splits have both."""

    opens_fast = True
    task_bounds: ClassVar[Mapping[str, Bounds]] = {"arm": OneOf([-1, 1], only=True)}

    def __init__(self, name: str, variant: str, horizon: int):
        """
        Raises:
            UserError: for a horizon that leaves no corridor.
        """
        self.detour = DETOUR[variant]
        self.length = horizon - 1 - 2 * self.detour
        """Steps of the corridor from the start to the junction."""
        if self.length < 1:
            raise UserError(
                f"a horizon of {horizon} steps leaves {name} no corridor\n"
                f"set --env.horizon to the corridor's length + {1 + 2 * self.detour}, at least "
                f"{2 + 2 * self.detour}"
            )
        seen = Box(-1.0, 1.0, (2,), np.float32)
        self.spec = EnvSpec(name, seen, Discrete(len(MOVES)), horizon, True, sparse=True)

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[Task]:
        """Draws arms independently, or alternates them if `stratified`."""
        check_split(split)
        coins = rng.integers(2, size=num_tasks)
        if check_draw(draw) == "stratified":
            coins = np.arange(num_tasks) % 2
        return [{"arm": 1 - 2 * coin} for coin in coins.tolist()]

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> TMazeEnv:
        del workers
        return TMazeEnv(self.spec, self.detour, num_tasks, episodes_per_task)

    def describe(self, task: Task) -> str:
        return "arm up" if task["arm"] > 0 else "arm down"
