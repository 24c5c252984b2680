"""Types of numbers with a range, for the annotations of config fields."""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple


class Range(NamedTuple):
    """Finite numbers from `least` to `most`; an open end excludes its bound."""

    least: float = -math.inf
    most: float = math.inf
    open_below: bool = False
    open_above: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not math.isfinite(value):
            return False
        above = value > self.least if self.open_below else value >= self.least
        below = value < self.most if self.open_above else value <= self.most
        return above and below

    def __str__(self) -> str:
        ends = []
        if self.least > -math.inf:
            ends.append(f"{'above' if self.open_below else 'at least'} {self.least:g}")
        if self.most < math.inf:
            ends.append(f"{'below' if self.open_above else 'at most'} {self.most:g}")
        return " and ".join(ends) or "finite"


Count = Annotated[int, Range(least=1)]
Natural = Annotated[int, Range(least=0)]
MOST_THREADS = 1024
ThreadNumber = Annotated[int, Range(least=1, most=MOST_THREADS)]
Positive = Annotated[float, Range(least=0, open_below=True)]
NonNegative = Annotated[float, Range(least=0)]
Fraction = Annotated[float, Range(least=0, most=1, open_below=True)]
UnitInterval = Annotated[float, Range(least=0, most=1)]
Shrinking = Annotated[float, Range(least=0, most=1, open_below=True, open_above=True)]
