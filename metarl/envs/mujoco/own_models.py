"""Models of tasks that differ in the physics, one for each task."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import mujoco

from metarl.types import Task


@runtime_checkable
class OwnModel(Protocol):
    """A family whose tasks differ in numbers of the model."""

    def put(self, task: Task, original: mujoco.MjModel, own: mujoco.MjModel) -> None:
        """Sets in `own`, a copy of `original`, every number in which tasks differ.

        Raises:
            UserError: for numbers that no model has.
        """
        ...


class TaskModels:
    """Copies of a model, which are used again for the next tasks."""

    def __init__(self, original: mujoco.MjModel, family: OwnModel):
        self._original, self._family = original, family
        self._copies: list[mujoco.MjModel] = []

    def of(self, tasks: Sequence[Task], episodes: int) -> list[mujoco.MjModel]:
        """Returns a model for each simulation, `episodes` of each task; equal neighbours share."""
        models: list[mujoco.MjModel] = []
        used, before = 0, None
        for task in tasks:
            if task != before:
                if used == len(self._copies):
                    self._copies.append(copy.copy(self._original))
                self._family.put(task, self._original, self._copies[used])
                used, before = used + 1, task
            models += [self._copies[used - 1]] * episodes
        return models
