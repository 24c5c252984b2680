"""Key to door: take a key, collect apples for a long time, then open the door of the key's colour.

After the environment of that name of Ni et al. 2023 (arXiv:2307.03864, section 4;
twni2016/Memory-RL key_to_door.py), with the same three phases and a few numbers in place of
pictures. There the one door opens to whoever has the key, so it tests the assignment of credit
alone. Here a key has one of two colours, and each of two doors opens to one colour, so the colour
must be remembered too, as in that paper's visual match.

1. Four steps to take the key: a line of five cells, the walker in the middle and the key at one of
   the ends, by chance. The key is taken by stepping there. Nothing is paid for it. The next
   observation, and no other, shows its colour, if it is still of this phase.
2. `length` steps with apples: before each there is an apple on the left or on the right (chance 1/4
   each) or none. An action to its side takes it and pays 0.1.
3. One step at the doors: left opens to colour -1, right to colour +1. It pays 1 if the walker has
   the key and chooses its door, else 0. Then the episode ends.

* Actions: left, stay, right.
* The observation: three numbers for the phase (one-hot), the place in the line (-1 to 1), the side
  of the key until it is taken, the colour, the side of the apple; 0 where there is none.
* `length` is chosen by the horizon: length = horizon - 5.

A task is the colour, the same in all of its episodes. So a test of memory plays trials of one
episode (RL2 with `inner.steps` 0): between episodes an agent could remember the colour.
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

SEARCH = 4
"""Steps of the first phase."""
REACH = 2
"""Steps from the middle of the line to each end."""
APPLE, DOOR = 0.1, 1.0
"""Rewards of an apple and of the right door."""
WIDTH = 7
"""Numbers in an observation."""


class KeyToDoorEnv:
    """K x E walkers; only the key's colour differs between tasks."""

    def __init__(self, spec: EnvSpec, num_tasks: int, episodes_per_task: int):
        shape = (num_tasks, episodes_per_task)
        self.spec = spec
        self._doors = spec.horizon - 1
        """Steps before that at the doors."""
        self._colours = np.zeros((num_tasks, 1), np.int64)
        self._place, self._side = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._apples = np.zeros((self._doors - SEARCH, *shape), np.int64)
        self._has_key = np.zeros(shape, dtype=bool)
        self._shown = np.zeros(shape, dtype=bool)
        """Whether the step just taken took the key."""
        self._steps = 0

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        check_number(tasks, len(self._colours))
        self._colours = np.array([task["colour"] for task in tasks], dtype=np.int64)[:, None]

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Draws the key's side and all apples of an episode from its seed."""
        kinds = np.array([-1, 1, 0, 0])
        for (task, episode), seed in np.ndenumerate(seeds):
            rng = np.random.Generator(np.random.PCG64(int(seed)))
            self._side[task, episode] = 2 * rng.integers(2) - 1
            self._apples[:, task, episode] = kinds[rng.integers(4, size=len(self._apples))]
        self._place[:] = 0
        self._has_key[:] = self._shown[:] = False
        self._steps = 0
        return self._observe()

    def step(self, actions: np.ndarray) -> StepResult:
        way = actions[..., 0] - 1
        paid, opened = np.zeros(way.shape), np.zeros(way.shape, dtype=bool)
        if self._steps < SEARCH:
            self._search(way)
        elif self._steps < self._doors:
            apple = self._apples[self._steps - SEARCH]
            paid = APPLE * ((apple != 0) & (way == apple))
            self._shown[:] = False
        else:
            opened = self._has_key & (way == self._colours)
            paid = DOOR * opened
        self._steps += 1
        return StepResult(
            obs=self._observe(),
            rewards=paid.astype(np.float32),
            terminated=np.full_like(opened, self._steps >= self.spec.horizon),
            truncated=np.zeros_like(opened),
            success=opened,
        )

    def close(self) -> None:
        pass

    def _search(self, way: np.ndarray) -> None:
        self._place = np.clip(self._place + way, -REACH, REACH)
        there = self._place == REACH * self._side
        self._shown = there & ~self._has_key
        self._has_key = self._has_key | there

    def _observe(self) -> np.ndarray:
        obs, now = np.zeros((*self._place.shape, WIDTH), np.float32), self._steps
        if now < SEARCH:
            obs[..., 0] = 1.0
            obs[..., 3] = self._place / REACH
            obs[..., 4] = np.where(self._has_key, 0, self._side)
            obs[..., 5] = np.where(self._shown, self._colours, 0)
        elif now < self._doors:
            obs[..., 1] = 1.0
            obs[..., 6] = self._apples[now - SEARCH]
        else:
            obs[..., 2] = 1.0
        return obs


class KeyToDoor:
    """Tasks {"colour": -1} and {"colour": 1}; both splits have both."""

    opens_fast = True
    task_bounds: ClassVar[Mapping[str, Bounds]] = {"colour": OneOf([-1, 1], only=True)}

    def __init__(self, name: str, variant: str, horizon: int):
        """
        Raises:
            UserError: for a horizon that is shorter than the first and the last phase.
        """
        del variant
        self.length = horizon - SEARCH - 1
        """Steps of the second phase."""
        if self.length < 0:
            raise UserError(
                f"a horizon of {horizon} steps leaves {name} no step at the doors\n"
                f"set --env.horizon to the number of steps with apples + {SEARCH + 1}, at least "
                f"{SEARCH + 1}"
            )
        seen = Box(-1.0, 1.0, (WIDTH,), np.float32)
        self.spec = EnvSpec(name, seen, Discrete(3), horizon, has_success=True, sparse=True)

    def sample(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[Task]:
        """Draws colours independently, or alternates them if `stratified`."""
        check_split(split)
        coins = rng.integers(2, size=num_tasks)
        if check_draw(draw) == "stratified":
            coins = np.arange(num_tasks) % 2
        return [{"colour": 1 - 2 * coin} for coin in coins.tolist()]

    def open(self, num_tasks: int, episodes_per_task: int, workers: Workers) -> KeyToDoorEnv:
        del workers
        return KeyToDoorEnv(self.spec, num_tasks, episodes_per_task)

    def describe(self, task: Task) -> str:
        return "colour +1" if task["colour"] > 0 else "colour -1"
