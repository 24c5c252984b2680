"""Division of K x E episodes into units, the smallest shares that a worker can have.

A policy is evaluated for larger groups of a task's episodes (`groups`), of which a worker may have
a part; it then computes the others too, on zeros. Units and groups depend on K and E alone. So
every matrix product has the same shape for any number of workers, and each row of it the same bits.
Everything else (physics, observations, activations) is elementwise over all episodes of a worker.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

ENOUGH = 256
"""Units that a round should have: 16 for each of 16 workers, so that shares can be as large as the
workers are fast."""

WIDE = 16
"""Episodes that a product should have at least; it reads a task's weights from memory once."""
TOO_WIDE = 64
"""Episodes beyond which a worker's part of a group would be too small."""


class Block(NamedTuple):
    """Neighbouring units of whole tasks, or of a part of one."""

    units: slice
    tasks: slice
    of_task: int
    """Units of each task here."""


@dataclass(frozen=True)
class Units:
    """Neighbouring units; unit u is `size` neighbouring episodes of one task.

    Episodes are numbered task by task. So a unit is a range of rows, and so are several.
    """

    num_tasks: int
    episodes: int
    """E: episodes of each task."""
    size: int
    start: int
    stop: int

    @classmethod
    def all(cls, num_tasks: int, episodes: int) -> Units:
        """Returns all units of K x E episodes, of the largest size that gives `ENOUGH` of them."""
        fitting = (n for n in range(episodes, 0, -1) if episodes % n == 0)
        size = next((n for n in fitting if num_tasks * episodes // n >= ENOUGH), 1)
        return cls(num_tasks, episodes, size, 0, num_tasks * episodes // size)

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def of_task(self) -> int:
        """Count of units in a task."""
        return self.episodes // self.size

    @property
    def rows(self) -> slice:
        """Rows of these units."""
        return slice(self.start * self.size, self.stop * self.size)

    @property
    def tasks(self) -> slice:
        """Tasks of these units; the first and the last may be here in part."""
        return slice(self.start // self.of_task, -(-self.stop // self.of_task))

    def groups(self) -> Units:
        """Returns the groups of these units' tasks, as larger units that hold them.

        A group has the fewest episodes, at least `WIDE`, that divide a task's, or all of them.
        """
        divisors = [n for n in range(1, self.episodes + 1) if self.episodes % n == 0]
        size = next((n for n in divisors if n >= WIDE), self.episodes)
        if size > TOO_WIDE:
            size = max(n for n in divisors if n <= WIDE)
        rows = self.rows
        return replace(self, size=size, start=rows.start // size, stop=-(-rows.stop // size))

    def places(self) -> list[tuple[int, int]]:
        """Returns task and episode of each row."""
        return [divmod(row, self.episodes) for row in range(self.rows.start, self.rows.stop)]

    def task_of_each(self) -> list[int]:
        """Returns the task of each unit, counted from the first task here."""
        first = self.tasks.start
        return [unit // self.of_task - first for unit in range(self.start, self.stop)]

    def blocks(self) -> list[Block]:
        """Returns at most three blocks: a part of a task, whole tasks, a part of a task.

        Their units and tasks are counted from the first ones here.
        """
        each, first = self.of_task, self.tasks.start
        bounds = {-(-self.start // each) * each, self.stop // each * each}
        edges = sorted({self.start, self.stop} | {b for b in bounds if self.start < b < self.stop})
        found = []
        for start, stop in pairwise(edges):
            tasks = slice(start // each - first, -(-stop // each) - first)
            of_task = (stop - start) // (tasks.stop - tasks.start)
            found.append(Block(slice(start - self.start, stop - self.start), tasks, of_task))
        return found

    def part(self, start: int, stop: int) -> Units:
        """Returns some of the units, by their numbers among all."""
        return replace(self, start=start, stop=stop)

    def divided(self, count: int) -> list[Units]:
        """Returns `count` nearly equal shares of neighbouring units."""
        number = len(self)
        edges = [self.start + number * i // count for i in range(count + 1)]
        return [self.part(start, stop) for start, stop in pairwise(edges)]
