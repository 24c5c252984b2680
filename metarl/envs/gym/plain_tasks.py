"""Tasks as plain data, which prints and which JSON gives back; and lists of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from metarl.envs.splits import check_draw, check_split, turns
from metarl.errors import UserError


class FixedTasks:
    """The tasks of two lists, dealt out without replacement as long as a list lasts."""

    relative: frozenset[str] = frozenset()
    """The numbers are absolute."""

    def __init__(self, train: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]]):
        """
        Raises:
            UserError: for an empty list, tasks that set different parameters, a task in both.
        """
        self._tasks = {"train": plain_tasks("train", train), "test": plain_tasks("test", test)}
        self.names = tuple(self._tasks["train"][0])
        for split, tasks in self._tasks.items():
            for index, task in enumerate(tasks):
                if set(task) != set(self.names):
                    # Or it would be played with what the task before it left behind.
                    raise UserError(
                        f"{split}[{index}] sets {sorted(task)}, train[0] {sorted(self.names)}; "
                        "every task must set the same parameters"
                    )
        for index, task in enumerate(self._tasks["test"]):
            if task in self._tasks["train"]:
                raise UserError(f"test[{index}], {task}, is in train too; leave one of them out")

    def sample(
        self, num: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[dict[str, Any]]:
        """Once a list is used up it is dealt out anew, in another order; by either `draw`."""
        check_draw(draw)
        tasks = self._tasks[check_split(split)]
        return [deepcopy(tasks[i]) for i in turns(len(tasks), num, rng)]


def plain_tasks(split: str, tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The tasks of a split as JSON gives them back.

    Raises:
        UserError: for none, and for what is no task.
    """
    if not tasks:
        raise UserError(f"{split} is {tasks!r}; give at least one task, as {{parameter: value}}")
    for index, task in enumerate(tasks):
        if not isinstance(task, Mapping):
            raise UserError(f"{split}[{index}] is {task!r}; a task is {{parameter: value}}")
    return [
        {name: plain(value, f"{split}[{index}][{name!r}]") for name, value in task.items()}
        for index, task in enumerate(tasks)
    ]


def plain(value: Any, place: str) -> Any:
    """`value` as JSON gives it back.

    Raises:
        UserError: for what JSON does not store.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item, place) for item in value]
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise UserError(f"{place}: a value cannot be {value!r}; give finite numbers, strings or lists")
