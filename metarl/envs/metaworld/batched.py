"""Meta-World simulations as rows of the worker pool, stepped and rewarded class by class."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from metarl.envs.metaworld.rules.base import Terms
from metarl.envs.metaworld.rules.catalogue import RULES
from metarl.envs.metaworld.simulations import ClassModel, Simulations
from metarl.envs.metaworld.snapshots import Snapshot
from metarl.sampling.rows import BUSY, DIVERGED, RowError, Rows, Share, faults_of, placed

TERMS = tuple("unscaled_reward" if name == "reward" else name for name in Terms._fields)
"""The names of a reward's terms in the info of metaworld's environments."""


SPARE = 3
"""Unused models that a share keeps, since its rows, and with them its classes, often change."""


class TaskPayload(NamedTuple):
    """The data of one task that a worker receives."""

    name: str
    """The task's class."""
    start: Snapshot


def on_this_machine(path: str) -> str:
    """Returns the path of a model here, of one on the machine that trains: Meta-World may be
    installed elsewhere. It is not imported, which takes seconds."""
    if os.path.exists(path):
        return path
    found = importlib.util.find_spec("metaworld")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("No module named 'metaworld'", name="metaworld")
    return os.path.join(os.path.dirname(found.origin), path.rpartition("/metaworld/")[2])


@dataclass(frozen=True)
class ClassShares:
    """Makes ClassShares; implements ShareFactory."""

    paths: Mapping[str, str]
    """Class -> path of its model."""
    horizon: int

    def share(self, rows: Rows, parts: Sequence[slice], worker: int) -> ClassShare:
        return ClassShare(self, rows, parts, worker)


class Group(NamedTuple):
    """The rows whose tasks are of one class."""

    rows: np.ndarray
    simulations: Simulations


class ClassShare(Share):
    """Steps a worker's rows class by class, in a single part; resets are deterministic."""

    def __init__(self, factory: ClassShares, rows: Rows, parts: Sequence[slice], worker: int):
        super().__init__(rows, parts, worker)
        self._factory = factory
        self._models: dict[str, ClassModel] = {}
        self._layout: list[tuple[int, str]] = []
        """(row, class) of each row."""
        self.groups: list[Group] = []
        self._steps = 0

    def set_tasks(self, tasks: Mapping[int, TaskPayload]) -> None:
        """Sets the tasks of adjacent rows; which rows a worker has may change with the tasks."""
        layout = sorted((row, payload.name) for row, payload in tasks.items())
        if layout != self._layout:
            self._layout = []
            of_class: dict[str, list[int]] = {}
            for row, name in layout:
                of_class.setdefault(name, []).append(row)
            self._drop_models(of_class)
            self.groups = [self._group(name, np.array(rows)) for name, rows in of_class.items()]
            self.parts, self._layout = [slice(layout[0][0], layout[-1][0] + 1)], layout
        for rows, simulations in self.groups:
            with self._at(int(rows[0]), 0):
                simulations.set_tasks([tasks[row].start for row in rows.tolist()])
        self._pulse[BUSY] = 0

    def _drop_models(self, classes: Collection[str]) -> None:
        """Drops models, of 21 MB each, except for `classes` and those used last."""
        self.groups = []
        others = [name for name in self._models if name not in classes]
        for name in others[: max(0, len(others) - SPARE)]:
            del self._models[name]

    def _group(self, name: str, rows: np.ndarray) -> Group:
        with self._at(int(rows[0]), 0), faults_of("constructor"):
            model = self._models.pop(name, None) or ClassModel(
                name, on_this_machine(self._factory.paths[name]), RULES[name]
            )
            self._models[name] = model  # moves it to the end: used last
            return Group(rows, Simulations(model, len(rows)))

    def reset(self, part: int) -> None:
        self._steps = 0
        self._clear(self.parts[part])
        for rows, simulations in self.groups:
            with self._at(int(rows[0]), 0):
                self.rows.obs[rows] = simulations.reset()
        self._check_finite(self.parts[part], 0)

    def step(self, part: int) -> None:
        started = time.perf_counter_ns()
        self._steps += 1
        shared, now, beat = self.rows, self._steps, self._next_beat()
        self._pulse[1] = now
        for rows, simulations in self.groups:
            self._pulse[0] = beat + int(rows[0])
            try:
                obs, terms = simulations.step(np.clip(shared.actions[rows], -1.0, 1.0))
            except Exception as error:
                raise placed(error, "step", int(rows[0]), now) from None
            unstable = np.isnan(obs[:, 0])
            if unstable.any():
                row = int(rows[unstable.argmax()])
                raise RowError(DIVERGED, "the simulation became unstable", "", row, now)
            shared.obs[rows], shared.rewards[rows] = obs, terms.reward
            shared.success[rows] = terms.success
            shared.terms[rows] = np.stack(terms, axis=1)
        self._check_finite(self.parts[part], now)
        shared.truncated[self.parts[part]] = now >= self._factory.horizon
        self._pulse[BUSY] += time.perf_counter_ns() - started
