"""Types of numbers with a range, for the annotations of config fields."""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple

MOST_WHOLE = 2**63 - 1
"""Largest whole number that arrays, files and random generators can hold."""


class Range(NamedTuple):
    """Finite numbers from `least` to `most`; an open end excludes its bound."""

    least: float = -math.inf
    most: float = math.inf
    open_below: bool = False
    open_above: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or value != value or abs(value) == math.inf:
            return False
        if isinstance(value, int) and abs(value) > MOST_WHOLE:
            return False  # also where it is to be a float, which may overflow
        above = value > self.least if self.open_below else value >= self.least
        below = value < self.most if self.open_above else value <= self.most
        return above and below

    def __str__(self) -> str:
        ends = []
        if self.least > -math.inf:
            ends.append(f"{'above' if self.open_below else 'at least'} {self.least:g}")
        if self.most < MOST_WHOLE:
            ends.append(f"{'below' if self.open_above else 'at most'} {self.most:g}")
        return " and ".join(ends) or "finite"

    def demand(self, value: object) -> str:
        """Returns what a number outside of the range must be, for an error message."""
        if isinstance(value, int) and value > MOST_WHOLE <= self.most:
            return f"at most {MOST_WHOLE}"
        return str(self)


NO_FLAG = "no flag"
"""Annotation of a field that is neither a flag nor a key, and that only Python can give."""

Count = Annotated[int, Range(least=1, most=MOST_WHOLE)]
Natural = Annotated[int, Range(least=0, most=MOST_WHOLE)]
MOST_THREADS = 1024
MOST_WORKERS = 1024
ThreadNumber = Annotated[int, Range(least=1, most=MOST_THREADS)]
WorkerNumber = Annotated[int, Range(least=0, most=MOST_WORKERS)]
Seconds = Annotated[float, Range(least=0.001, most=1e6)]
"""Time that the operating system can wait for; it takes neither 0 nor 1e300."""
Positive = Annotated[float, Range(least=0, open_below=True)]
NonNegative = Annotated[float, Range(least=0)]
Fraction = Annotated[float, Range(least=0, most=1, open_below=True)]
UnitInterval = Annotated[float, Range(least=0, most=1)]
BoxEntropy = Annotated[float, Range(least=-100, most=0.69)]
"""Entropy of a number in [-1, 1] in nats; that of a uniform one is log 2 = 0.693."""
Shrinking = Annotated[float, Range(least=0, most=1, open_below=True, open_above=True)]
