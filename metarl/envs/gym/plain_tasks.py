"""Converts tasks to plain data that JSON can store, and draws from fixed lists of tasks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from metarl.envs.splits import check_draw, check_split, turns
from metarl.errors import UserError


class FixedTasks:
    """Draws tasks from two lists, without replacement until a list is used up."""

    relative: frozenset[str] = frozenset()
    """The numbers are absolute."""

    def __init__(self, train: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]]):
        """
        Raises:
            UserError: for an empty list, tasks that set different parameters, a task in both lists.
        """
        self._tasks = {"train": plain_tasks("train", train), "test": plain_tasks("test", test)}
        self.names = tuple(self._tasks["train"][0])
        for split, tasks in self._tasks.items():
            for index, task in enumerate(tasks):
                if set(task) != set(self.names):
                    # A parameter that a task leaves out would keep the previous task's value.
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
        """Draws tasks; a list that is used up starts again in a new order, for either `draw`."""
        check_draw(draw)
        tasks = self._tasks[check_split(split)]
        return [deepcopy(tasks[i]) for i in turns(len(tasks), num, rng)]


def plain_tasks(split: str, tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the tasks of a split as plain data.

    Raises:
        UserError: for an empty list, and for anything that is not a task.
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
    """Returns `value` with arrays and tuples as lists, and numpy's numbers as Python's.

    Raises:
        UserError: for values that JSON cannot store.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item, place) for item in value]
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise UserError(f"{place}: a value cannot be {value!r}; give finite numbers, strings or lists")
