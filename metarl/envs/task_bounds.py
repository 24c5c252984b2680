"""Bounds of the values that tasks have, by which tasks that a user gives are judged.

A distribution may say them in an attribute `task_bounds`: key -> `Between`, `Disc` or `OneOf`.
Where it says nothing, `given_tasks.py` goes by a sample of its training tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot
from typing import Any, TypeAlias


@dataclass(frozen=True)
class Between:
    """Numbers from `low` to `high`; of a list, each number. Lists as ends are those of a list's
    items."""

    low: Any
    high: Any
    only: bool = False
    """Whether others mean nothing, as a probability of 2, and are refused."""
    slack: float = 0.0
    """Distance beyond the ends that may still be training's, where they come from a sample."""

    def holds(self, value: Any) -> bool:
        if isinstance(value, list | tuple):
            if not isinstance(self.low, list | tuple):
                return all(map(self.holds, value))
            ends = zip(self.low, self.high, strict=False)
            each = [replace(self, low=low, high=high) for low, high in ends]
            return all(one.holds(item) for one, item in zip(each, value, strict=False))
        if not isinstance(value, int | float) or isinstance(self.low, list | tuple):
            return True
        return self.low - self.slack <= value <= self.high + self.slack

    def __str__(self) -> str:
        return f"from {_short(self.low)} to {_short(self.high)}"


@dataclass(frozen=True)
class Disc:
    """Places [x, y] within `radius` of the origin."""

    radius: float
    only: bool = False

    def holds(self, value: Any) -> bool:
        return hypot(*value) <= self.radius * (1.0 + 1e-9)

    def __str__(self) -> str:
        return f"places within {self.radius:g} of the origin"


@dataclass(frozen=True)
class OneOf:
    """One of some values, in their plain form; `each`: a list of such values."""

    values: Sequence[Any]
    only: bool = False
    each: bool = False

    def holds(self, value: Any) -> bool:
        if self.each and isinstance(value, list | tuple):
            return all(item in self.values for item in value)
        return value in self.values

    def __str__(self) -> str:
        listed = ", ".join(map(_short, self.values[:8]))
        return f"one of {listed}{', ...' if len(self.values) > 8 else ''}"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


Bounds: TypeAlias = Between | Disc | OneOf
