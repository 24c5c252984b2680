"""Draws from fixed lists of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from metarl.envs.splits import check_draw, check_split, turns
from metarl.envs.task_bounds import OneOf
from metarl.errors import UserError
from metarl.runs.plain import plain


class FixedTasks:
    """Draws tasks from two lists, without replacement until a list is used up."""

    relative: frozenset[str] = frozenset()
    """The numbers are absolute."""

    def __init__(self, train: Sequence[Mapping[str, Any]], test: Sequence[Mapping[str, Any]]):
        """
        Raises:
            UserError: for an empty list, tasks that set different parameters, a task in both lists.
        """
        self._tasks = {"train": checked_tasks("train", train), "test": checked_tasks("test", test)}
        self.names = tuple(self._tasks["train"][0])
        for split, tasks in self._tasks.items():
            for index, task in enumerate(tasks):
                if set(task) != set(self.names):
                    # A parameter that a task leaves out would keep the previous task's value.
                    raise UserError(
                        f"{split}[{index}] sets {sorted(task)}, train[0] {sorted(self.names)}; "
                        "every task must set the same parameters"
                    )
        known = [plain(task, "train") for task in self._tasks["train"]]
        for index, task in enumerate(self._tasks["test"]):
            if plain(task, "test") in known:
                raise UserError(f"test[{index}], {task}, is in train too; leave one of them out")

    @property
    def bounds(self) -> dict[str, OneOf]:
        """Values of each parameter in training tasks."""
        train = self._tasks["train"]
        return {name: OneOf([plain(task[name]) for task in train]) for name in self.names}

    def sample(
        self, num: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[dict[str, Any]]:
        """Draws tasks; a list that is used up starts again in a new order, for either `draw`."""
        check_draw(draw)
        tasks = self._tasks[check_split(split)]
        return [deepcopy(tasks[i]) for i in turns(len(tasks), num, rng)]


def checked_tasks(split: str, tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns copies of the tasks of a split, with values of the types that were given.

    Raises:
        UserError: for an empty list, for anything that is not a task, and for a value without a
            plain form.
    """
    if not len(tasks):
        raise UserError(f"{split} is {tasks!r}; give at least one task, as {{parameter: value}}")
    for index, task in enumerate(tasks):
        if not isinstance(task, Mapping):
            raise UserError(f"{split}[{index}] is {task!r}; a task is {{parameter: value}}")
        for name, value in task.items():
            plain(value, f"{split}[{index}][{name!r}]")
    return [deepcopy(dict(task)) for task in tasks]
