"""A family of tasks that differ in a robot's masses, inertias, dampings and frictions.

A task has a number x ~ U(-3, 3) for each entry of these fields of the model, which is multiplied by
1.5^x, a factor of 0.3 to 3.4; that of the damping by 1.3^x, 0.46 to 2.2 (rand_param_envs, base.py).
So a task of zeros is the robot as it is, and an oracle observes numbers of one scale.

    key           field          factor  shape
    log_mass      body_mass      1.5^x   [bodies], without the world
    log_inertia   body_inertia   1.5^x   [bodies, 3]
    log_damping   dof_damping    1.3^x   [joints that are damped]
    log_friction  geom_friction  1.5^x   [geoms, 3]: of the floor first; sliding, torsion, rolling

Entries that are zero in the model have no number: zero they stay. As in the source, nothing else
in the model changes: constants that MuJoCo derived of the masses when it compiled the model, such
as the softness of contacts, are those of the robot as it is.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import mujoco
import numpy as np

from metarl.envs.splits import quantiles, shares
from metarl.envs.task_bounds import Between, Bounds
from metarl.errors import UserError
from metarl.types import Task

LIMIT = 3.0
"""Numbers of a task are U(-LIMIT, LIMIT)."""


class Varied(NamedTuple):
    """A field of the model whose entries differ between tasks."""

    field: str
    base: float
    rows: tuple[int, ...]
    """Rows of the field that are not zero."""
    width: tuple[int, ...]
    """Shape of a row."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.width)


FIELDS = {
    "log_mass": ("body_mass", 1.5),
    "log_inertia": ("body_inertia", 1.5),
    "log_damping": ("dof_damping", 1.3),
    "log_friction": ("geom_friction", 1.5),
}


@dataclass(frozen=True)
class Factors:
    """Tasks {"log_mass": [...], "log_inertia": [[...], ...], ...}.

    The splits share no value of the first mass (splits.py).
    """

    varied: Mapping[str, Varied]
    masses: tuple[float, ...]
    """Masses of the bodies of `log_mass`, kg."""

    @staticmethod
    def of(model: mujoco.MjModel) -> Factors:
        """Returns the family of a robot."""
        varied = {}
        for key, (field, base) in FIELDS.items():
            values = getattr(model, field)
            rows = np.flatnonzero(values.reshape(len(values), -1).any(axis=1))
            varied[key] = Varied(field, base, tuple(rows.tolist()), values.shape[1:])
        return Factors(varied, tuple(model.body_mass[list(varied["log_mass"].rows)].tolist()))

    @property
    def bounds(self) -> Mapping[str, Bounds]:
        return dict.fromkeys(self.varied, Between(-LIMIT, LIMIT))

    def sample(self, num: int, rng: np.random.Generator, split: str, draw: str) -> list[Task]:
        """Draws tasks; `stratified`: each number evenly over its range."""
        columns = [quantiles(num, rng, split, draw)]
        columns += [
            shares(num, rng, draw)
            for _ in range(sum(prod(one.shape) for one in self.varied.values()) - 1)
        ]
        numbers = LIMIT * (2.0 * np.stack(columns, axis=1) - 1.0)
        tasks: list[dict] = [{} for _ in range(num)]
        for key, one in self.varied.items():
            own, numbers = np.split(numbers, [prod(one.shape)], axis=1)
            for task, values in zip(tasks, own.reshape(num, *one.shape).tolist(), strict=True):
                task[key] = values
        return list(tasks)

    def put(self, task: Task, original: mujoco.MjModel, own: mujoco.MjModel) -> None:
        """Multiplies the fields of the model.

        Raises:
            UserError: for numbers of another shape, or too large for a factor.
        """
        for key, one in self.varied.items():
            numbers = np.asarray(task[key], dtype=np.float64)
            if numbers.shape != one.shape:
                raise UserError(
                    f"{key} of a task has the shape {list(numbers.shape)}\n"
                    f"this robot's has {list(one.shape)}; zeros are the robot as it is"
                )
            with np.errstate(over="ignore", under="ignore"):
                factors = one.base**numbers
            if not (np.isfinite(factors) & (factors > 0.0)).all():
                worst = numbers.flat[np.abs(numbers).argmax()]
                raise UserError(
                    f"{key} of a task has {worst:g}, and {one.base}^{worst:g} is no factor\n"
                    f"training has numbers from {-LIMIT:g} to {LIMIT:g}"
                )
            rows = list(one.rows)
            getattr(own, one.field)[rows] = getattr(original, one.field)[rows] * factors

    def goals(self, tasks: Sequence[Task]) -> np.ndarray:
        """Returns zeros [K]: the reward does not depend on the task."""
        return np.zeros(len(tasks))

    def describe(self, task: Task) -> str:
        base = self.varied["log_mass"].base
        mass = np.dot(self.masses, base ** np.asarray(task["log_mass"], dtype=np.float64))
        return f"{mass:.1f} kg"
