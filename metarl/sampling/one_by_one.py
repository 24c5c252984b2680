"""Rows whose environments are Python objects that step one at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from metarl.sampling.rows import Rows, Share, faults_of, placed
from metarl.types import Task

RowStep = tuple[np.ndarray, float, bool, bool, bool]
"""Result of one environment's step: obs [obs_dim], reward, terminated, truncated, success."""


class RowEnv(Protocol):
    """One environment that can change its task."""

    def set_task(self, task: Task) -> None: ...
    def reset(self, seed: int) -> np.ndarray: ...
    def step(self, action: Any) -> RowStep: ...
    def close(self) -> None: ...


class RowFactory(ABC):
    """ShareFactory of environments that step one at a time."""

    @abstractmethod
    def make(self) -> RowEnv: ...

    @abstractmethod
    def decode(self, actions: np.ndarray) -> Sequence[Any] | np.ndarray:
        """Converts actions [n, act_dim] of n rows to what their environments take."""

    def share(self, rows: Rows, parts: Sequence[slice], worker: int) -> OneByOne:
        return OneByOne(self, rows, parts, worker)


class OneByOne(Share):
    """Share that steps its rows one after another."""

    def __init__(self, factory: RowFactory, rows: Rows, parts: Sequence[slice], worker: int):
        super().__init__(rows, parts, worker)
        self.factory = factory
        self._envs: dict[int, RowEnv] = {}
        self._going: list[list[int]] = [[] for _ in parts]
        """Rows of each part whose episodes have not ended."""
        self._steps = [0] * len(parts)

    def set_tasks(self, tasks: Mapping[int, Task]) -> None:
        for row, task in tasks.items():
            with self._at(row, 0):
                if row not in self._envs:
                    with faults_of("constructor"):
                        self._envs[row] = self.factory.make()
                self._envs[row].set_task(task)

    def reset(self, part: int) -> None:
        rows, where = self.rows, self.parts[part]
        self._steps[part] = 0
        self._clear(where)
        self._going[part] = list(range(where.start, where.stop))
        for row in range(where.start, where.stop):
            with self._at(row, 0):
                rows.obs[row] = self._envs[row].reset(int(rows.seeds[row]))
        self._check_finite(where, 0)

    def step(self, part: int) -> None:
        rows, where = self.rows, self.parts[part]
        self._steps[part] += 1
        now, going, pulse, envs = self._steps[part], self._going[part], self._pulse, self._envs
        beat = self._next_beat()
        obs, rewards, success = rows.obs, rows.rewards, rows.success
        terminated, truncated = rows.terminated, rows.truncated
        actions, first, row, ended = self.factory.decode(rows.actions[where]), where.start, 0, False
        pulse[1] = now
        try:
            for row in going:
                pulse[0] = beat + row
                obs[row], rewards[row], over, cut, success[row] = envs[row].step(
                    actions[row - first]
                )
                if over or cut:
                    terminated[row], truncated[row], ended = over, cut, True
        except Exception as error:
            raise placed(error, "step", row, now) from error.__cause__
        self._check_finite(where, now)
        if ended:
            self._going[part] = [row for row in going if not (terminated[row] or truncated[row])]

    def close(self) -> None:
        while self._envs:
            self._envs.popitem()[1].close()
