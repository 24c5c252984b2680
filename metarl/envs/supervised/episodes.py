"""N-way K-shot episodes: each task is a classification of N classes with K examples of each.

A task is {"classes": [...]}: N classes drawn without replacement, in the order of their targets
0 .. N - 1. The order is random, so only the support shows which target a class has
(arXiv:1606.04080, section 2.1).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
import torch

from metarl.envs.splits import check_split
from metarl.envs.supervised.labelled import checked_inputs, checked_labels, plain_classes
from metarl.envs.task_bounds import OneOf
from metarl.errors import UserError
from metarl.runs.inputs import Preprocessing
from metarl.text import shown
from metarl.types import Examples, FewShotSpec, Task

DEGREES = (0, 90, 180, 270)
"""Rotations, counterclockwise."""
DESCRIBED = 5
"""The most classes that a task's description names."""


class Episodes:
    """Few-shot tasks from labelled arrays that are kept in memory; implements FewShotTasks."""

    def __init__(
        self,
        name: str,
        inputs: np.ndarray,
        labels: np.ndarray,
        train_classes: Iterable[int],
        test_classes: Iterable[int],
        ways: int,
        rotations: str = "none",
        class_names: Sequence[str] = (),
        notes: Sequence[str] = (),
        preprocessing: Preprocessing | None = None,
    ):
        """
        Args:
            inputs: [M, *shape] finite numbers; uint8 is divided by 255, as for images.
            labels: [M] integers.
            train_classes, test_classes: labels; none is in both.
            ways: N, the classes in a task.
            rotations: "train" or "all": rotations by 90, 180 and 270 degrees are further classes in
                the train split, or in both splits. Images are the last two axes and square; a task
                names a rotated class [class, degrees].
            class_names: names of the classes with labels 0, 1, ...; the labels by default.
            notes: lines to print when a run starts.
            preprocessing: how `inputs` were made of raw data; left out, the division of uint8.

        Raises:
            UserError: for arguments that break these rules, and for too few classes in a split.
        """
        if ways < 2:
            raise UserError(f"{name}: env.ways is {ways}; a task needs at least 2 classes")
        self.inputs, labels = checked_inputs(name, inputs), checked_labels(name, labels)
        if len(self.inputs) != len(labels):
            raise UserError(
                f"{name}: {len(self.inputs)} inputs and {len(labels)} labels; give one label for "
                "each input"
            )
        self.spec = FewShotSpec(name, self.inputs.shape[1:], ways, classes=True)
        self.notes = tuple(notes)
        self.preprocessing = preprocessing or _division(self.inputs)
        """How raw examples become inputs, for a learner that is used elsewhere."""
        self._turned = {"none": (), "train": ("train",), "all": ("train", "test")}[rotations]
        self._turns = len(DEGREES) if self._turned else 1
        shape = self.spec.input_shape
        if self._turned and (len(shape) < 2 or shape[-1] != shape[-2]):
            raise UserError(
                f"{name}: only square images can be rotated, not examples of shape {shape}; leave "
                "out env.rotations"
            )
        self._labels, self._counts = np.unique(labels, return_counts=True)
        self._starts = np.cumsum(self._counts) - self._counts
        self._order = np.argsort(labels, kind="stable")
        """Indices of examples sorted by class; a class begins at its entry in `_starts`."""
        self._names: list[Any] = [
            class_names[label] if class_names else label for label in self._labels.tolist()
        ]
        self._splits = {
            "train": self._rows(train_classes, "train"),
            "test": self._rows(test_classes, "test"),
        }
        if len(both := np.intersect1d(self._splits["train"], self._splits["test"])):
            raise UserError(
                f"{name}: class {self._names[both[0] // self._turns]!r} is in the train split and "
                "in the test split; leave it out of one"
            )
        self._row_of = {_hashable(self._name_of(row)): row for row in self._all_rows()}
        known = [self._name_of(row) for row in self._all_rows()]
        self.task_bounds = {"classes": OneOf(known, only=True, each=True)}

    def sample(self, num_tasks: int, rng: np.random.Generator, split: str = "train") -> list[Task]:
        rows = self._splits[check_split(split)]
        chosen = rows[distinct(np.full(num_tasks, len(rows)), self.spec.outputs, rng)]  # [K, N]
        return [{"classes": [self._name_of(row) for row in task]} for task in chosen.tolist()]

    def draw(
        self, tasks: Sequence[Task], shots: int, queries: int, rng: np.random.Generator
    ) -> tuple[Examples, Examples]:
        """Draws support [K, N * shots, ...] and query [K, N * queries, ...], class by class.

        Raises:
            UserError: if a class has fewer than shots + queries examples.
        """
        rows = [[self._row_of[_hashable(name)] for name in task["classes"]] for task in tasks]
        classes, turns = np.divmod(np.array(rows), self._turns)  # [K, N]
        self._check_counts(np.unique(classes), shots, queries)
        within = distinct(self._counts[classes], shots + queries, rng)  # [K, N, shots + queries]
        drawn = self.inputs[self._order[self._starts[classes][..., None] + within]]
        for turn in range(1, self._turns):
            drawn[turns == turn] = np.rot90(drawn[turns == turn], turn, axes=(-2, -1))
        return _examples(drawn[:, :, :shots]), _examples(drawn[:, :, shots:])

    def completed(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns a task that a user gave; raises a ValueError for a class that comes twice."""
        classes = values.get("classes")
        if isinstance(classes, list | tuple):
            twice = next((x for i, x in enumerate(classes) if x in classes[:i]), None)
            if twice is not None:
                raise ValueError(f"the class {shown(twice)} comes twice")
        return values

    def check(self, shots: int, queries: int) -> None:
        """Checks that every class has enough examples.

        Raises:
            UserError: if a class of a split has fewer than shots + queries examples.
        """
        self._check_counts(np.unique(self._all_rows() // self._turns), shots, queries)

    def with_validation(self) -> Episodes:
        """Returns these tasks with a quarter of the training classes in the place of the test
        classes, and the others for training; see `envs/validation.py`.

        Raises:
            UserError: where tasks of as many ways leave too few classes for either.
        """
        places = np.unique(self._splits["train"] // self._turns)
        ways = self.spec.outputs
        apart = max(len(places) // 4, ways)
        if len(places) - apart < ways:
            raise UserError(
                f"{self.spec.name} has {len(places)} training classes: too few to keep {ways} for "
                f"validation and train on {ways} others\nlower env.ways, or use --select-on train"
            )
        chosen = np.random.default_rng(0).permutation(places)
        found = copy(self)
        found._splits = {
            "train": self._rows_of(np.sort(chosen[apart:]), "train"),
            "test": self._rows_of(np.sort(chosen[:apart]), "test"),
        }
        return found

    def describe(self, task: Task) -> str:
        names = [f"{x[0]} ({x[1]}°)" if isinstance(x, list) else str(x) for x in task["classes"]]
        others = len(names) - DESCRIBED
        return ", ".join(names[:DESCRIBED]) + (f" and {others} others" if others > 0 else "")

    def _rows(self, classes: Iterable[int], split: str) -> np.ndarray:
        """Returns the row numbers of a split.

        A class has one row for each rotation, side by side; a split without rotations uses only
        the first."""
        places = {label: place for place, label in enumerate(self._labels.tolist())}
        given = plain_classes(classes)
        for label in given:
            if label not in places:
                raise UserError(
                    f"{self.spec.name}: class {label!r} of the {split} split is not among the "
                    "labels; leave it out"
                )
        found = np.unique([places[label] for label in given]).astype(np.int64)
        rows = self._rows_of(found, split)
        if len(rows) < self.spec.outputs:
            raise UserError(
                f"{self.spec.name}: the {split} split has {len(rows)} classes, and a task takes "
                f"{self.spec.outputs}; lower env.ways, or give the split more classes"
            )
        return rows

    def _rows_of(self, places: np.ndarray, split: str) -> np.ndarray:
        """Returns the rows of classes at these places among all labels."""
        turns = np.arange(self._turns if split in self._turned else 1)
        return (places[:, None] * self._turns + turns).ravel()

    def _all_rows(self) -> np.ndarray:
        return np.concatenate(list(self._splits.values()))

    def _name_of(self, row: int) -> Any:
        """Returns the name of a row's class in tasks."""
        place, turn = divmod(int(row), self._turns)
        return self._names[place] if self._turns == 1 else [self._names[place], DEGREES[turn]]

    def _check_counts(self, classes: np.ndarray, shots: int, queries: int) -> None:
        least = classes[np.argmin(self._counts[classes])]
        if (count := self._counts[least]) < shots + queries:
            raise UserError(
                f"{self.spec.name}: class {self._names[least]!r} has {count} examples, and a task "
                f"takes {shots + queries} of each: {shots} shots and {queries} queries; lower "
                "env.shots or env.queries"
            )


def distinct(counts: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    """Draws `num` different indices below each of `counts` [...], in random order, [..., num].

    Floyd's algorithm (Bentley and Floyd 1987): its cost does not depend on the counts.
    """
    chosen = np.empty((*counts.shape, num), dtype=np.int64)
    for i in range(num):
        last = counts - num + i
        drawn = rng.integers(last + 1)
        taken = (chosen[..., :i] == drawn[..., None]).any(axis=-1)
        chosen[..., i] = np.where(taken, last, drawn)
    return rng.permuted(chosen, axis=-1)


def _examples(drawn: np.ndarray) -> Examples:
    """Returns the examples in `drawn` [K, N, n, *shape]; an index along N is the target."""
    tasks, ways, count = drawn.shape[:3]
    inputs = drawn.reshape(tasks, ways * count, *drawn.shape[3:]).astype(np.float32)
    if drawn.dtype == np.uint8:
        inputs /= 255
    targets = np.tile(np.repeat(np.arange(ways), count), (tasks, 1))
    return Examples(torch.from_numpy(inputs), torch.from_numpy(targets))


def _division(inputs: np.ndarray) -> Preprocessing:
    return Preprocessing(255.0, 0.0, 1.0) if inputs.dtype == np.uint8 else Preprocessing()


def _hashable(name: Any) -> Hashable:
    return tuple(name) if isinstance(name, list) else name
