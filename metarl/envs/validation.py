"""Keeps a quarter of the training tasks apart for validation, as a search for settings needs.

Held-out tasks are for the final evaluation. A search that chose settings by them would report a
result that is too good. So its trials train on a part of the training tasks, and are judged by the
rest.

* A family of many tasks is divided by a hash of each task: the same task is always on the same
  side, whatever the seed. Tasks of a range are spread over all of it.
* A family of few tasks (`FEW`) is listed, and the quarter with the smallest hashes is kept apart.
* Of classes with goals, as Meta-World's, a quarter of the goals of each class is.
* Of few-shot classification a quarter of the classes is, so that no class is in both parts.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from metarl.envs.splits import check_split
from metarl.envs.supervised.episodes import Episodes
from metarl.errors import UserError
from metarl.runs.plain import plain
from metarl.types import Classes, Task

SHARE = 4
"""One task in this many is for validation."""
FEW = 200
"""Number of tasks up to which they are listed."""
PROBES = 4000
"""Tasks drawn to list a family of few: the chance to miss one of 200 is below 1e-6."""
MOST_TRIES = 1000
"""Draws of a meta-batch after which its places that hold tasks of the other side are given up."""
GOALS = 50
"""Goals of each class that are listed."""

Tasks = TypeVar("Tasks")


def with_validation(tasks: Tasks) -> Tasks:
    """Returns a copy of a distribution that knows training tasks alone.

    Its split "train" is without the tasks that are kept apart, and these are its split "test".

    Raises:
        UserError: for a family of too few tasks, and one whose tasks cannot be told apart.
    """
    if isinstance(tasks, Episodes):
        return _with_sample(tasks.with_validation(), None, tasks)
    known: Any = tasks
    if isinstance(known, Classes):
        return _with_sample(copy.copy(known), Goals(known, _of_classes(known)), tasks)
    return _with_sample(copy.copy(known), _divided(known), tasks)


def _with_sample(made: Any, sample: Any, original: Any) -> Any:
    """Returns a distribution that draws by `sample`."""
    if sample is None:
        return made
    try:
        object.__setattr__(made, "sample", sample)  # the class may be a frozen dataclass
        if isinstance(sample, Goals):
            object.__setattr__(made, "held_out", sample.held_out)
    except AttributeError:
        raise UserError(
            f"{original.spec.name}: no tasks can be kept apart of {type(original).__name__}, which "
            "has no room for an attribute\ngive the class a __dict__, or use --select-on train"
        ) from None
    return made


def side(task: Task) -> int:
    """Returns a number of 32 bits that depends on the task's values alone."""
    text = json.dumps(plain(task), sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


@dataclass(frozen=True)
class Divided:
    """Draws the training tasks of a distribution, of one side alone."""

    tasks: Any
    """Distribution with all tasks."""
    apart: frozenset[int] | None
    """Hashes of the tasks for validation; None: those divisible by `SHARE`."""

    def is_apart(self, task: Task) -> bool:
        number = side(task)
        return number % SHARE == 0 if self.apart is None else number in self.apart

    def __call__(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = ""
    ) -> list[Task]:
        """Draws tasks; those of the other side are replaced, each by what another draw has in its
        place, so that strata and the order of classes stay.

        Raises:
            UserError: where no task of a side is drawn.
        """
        wanted, extra = check_split(split) == "test", (draw,) if draw else ()
        found: list[Task | None] = [None] * num_tasks
        missing = list(range(num_tasks))
        for _ in range(MOST_TRIES):
            drawn = self.tasks.sample(num_tasks, rng, "train", *extra)
            for place in missing:
                if self.is_apart(drawn[place]) == wanted:
                    found[place] = drawn[place]
            missing = [place for place in missing if found[place] is None]
            if not missing:
                return [task for task in found if task is not None]
        raise _too_few(self.tasks, f"none {'for validation' if wanted else 'to train on'} was")


def _divided(tasks: Any) -> Divided:
    """Returns the draws of a family without classes."""
    rng = np.random.default_rng(0)
    drawn = tasks.sample(FEW, rng, "train")
    if any("classes" in task for task in drawn):
        raise UserError(
            f"{tasks.spec.name}: tasks of your own classes cannot be kept apart\n"
            "metarl.episodes_from_arrays makes tasks that can; or use --select-on train"
        )
    if len(_distinct(drawn)) > FEW // 2:
        return Divided(tasks, None)
    known = _distinct([*drawn, *tasks.sample(PROBES, rng, "train")])
    if len(known) > FEW:
        return Divided(tasks, None)
    if len(known) < SHARE:
        raise _too_few(tasks, f"only {len(known)} {'is' if len(known) == 1 else 'are'}")
    held_out = _distinct(tasks.sample(PROBES, rng, "test"))
    if both := known.keys() & held_out.keys():
        raise UserError(
            f"{tasks.spec.name}: the task {dict(known[min(both)])} is for training and held out\n"
            "a search would choose by it; use --select-on train, or name other held-out tasks"
        )
    return Divided(tasks, frozenset(sorted(known)[: len(known) // SHARE]))


def _distinct(tasks: Iterable[Task]) -> dict[int, Task]:
    return {side(task): task for task in tasks}


def _too_few(tasks: Any, why: str) -> UserError:
    return UserError(
        f"{tasks.spec.name} has too few training tasks to keep some apart for validation: {why} "
        "drawn\ngive it more, or use --select-on train"
    )


@dataclass(frozen=True)
class Goals:
    """Draws training tasks of classes, of the goals of one side alone."""

    tasks: Any
    """Distribution with all tasks."""
    goals: Mapping[str, Mapping[str, Sequence[Task]]]
    """Goals of each class, by split: "train", and "test" for validation."""

    def __call__(
        self, num_tasks: int, rng: np.random.Generator, split: str = "train", draw: str = "random"
    ) -> list[Task]:
        """Draws equally many goals of each class; the i-th of n is of its goals i, i + n, ..."""
        self.tasks.sample(num_tasks, np.random.default_rng(0), "train", draw)  # for its errors
        of_class = self.goals[check_split(split)]
        each = num_tasks // len(of_class)
        return [
            goals[int(rng.choice(np.arange(place % len(goals), len(goals), each)))]
            for goals in of_class.values()
            for place in range(each)
        ]

    def held_out(self, goals: int, split: str = "test") -> list[Task]:
        """Returns up to `goals` goals of every class."""
        return [task for known in self.goals[split].values() for task in known[:goals]]


def _of_classes(tasks: Classes) -> dict[str, dict[str, list[Task]]]:
    """Returns the goals of each class by split, as `Goals` has them."""
    known: dict[str, list[Task]] = {}
    for task in tasks.held_out(GOALS, "train"):
        known.setdefault(task["class"], []).append(task)
    found: dict[str, dict[str, list[Task]]] = {"train": {}, "test": {}}
    for name, goals in known.items():
        apart = sorted(goals, key=side)[: len(goals) // SHARE]
        if not apart:
            raise _too_few(tasks, f"of {name} only {len(goals)} are")
        found["test"][name] = apart
        found["train"][name] = [goal for goal in goals if goal not in apart]
    return found
