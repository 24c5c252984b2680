"""Ticks of an axis and the texts beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from metarl.runs.progress import short

LARGEST = 1e100
"""Size of a value from which on it is not drawn."""
STEPS = (1.0, 2.0, 5.0, 10.0)
"""Sizes of a step between ticks, times a power of ten."""
DECADES = 3
"""Decades of a logarithmic axis up to which it has ticks at 2 and 5 too."""


def drawable(values: np.ndarray) -> np.ndarray:
    """Returns the values with NaN, which leaves a gap, for those too large to be drawn."""
    wide = np.asarray(values, np.float64)
    return np.where(np.abs(wide) < LARGEST, wide, np.nan)


def linear(low: float, high: float, most: int = 5, whole: bool = False) -> list[float]:
    """Returns round numbers from `low` to `high`, about `most` of them; `whole` ones if asked."""
    raw = (high - low) / most
    if not raw > 0 or not math.isfinite(raw):
        return [low]
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * each for each in STEPS if size * each >= raw * (1 - 1e-9))
    if whole:
        step = max(1.0, step)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def logarithmic(low: float, high: float) -> list[float]:
    """Returns powers of ten, with their multiples by 2 and 5 on a short axis."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, (last - first) // 6)
    parts = (1.0, 2.0, 5.0) if last - first <= DECADES else (1.0,)
    ticks = [part * 10.0**n for n in range(first, last + 1, every) for part in parts]
    return [tick for tick in ticks if low <= tick * (1 + 1e-9) and tick <= high * (1 + 1e-9)]


Texts = Callable[[Sequence[float]], list[str]]
"""Function of an axis's ticks that returns their texts."""


def numbers(ticks: Sequence[float]) -> list[str]:
    """Returns plain numbers with as many decimals as tell the ticks apart."""
    largest = max(map(abs, ticks), default=0.0)
    if largest >= 1e5 or 0 < largest < 1e-3:
        return [f"{tick:.3g}" for tick in ticks]
    gaps = [abs(b - a) for a, b in pairwise(ticks)]
    gap = min((gap for gap in gaps if gap > 0), default=largest)
    decimals = max(0, -math.floor(math.log10(gap) + 1e-9)) if gap > 0 else 0
    return [f"{tick + 0.0:.{decimals}f}".replace("-", "\N{MINUS SIGN}") for tick in ticks]


def powers(ticks: Sequence[float]) -> list[str]:
    """Returns the ticks of a logarithmic axis, each in as few characters as it takes."""
    return [f"{tick:g}" for tick in ticks]


def counts(ticks: Sequence[float]) -> list[str]:
    """Returns counts in few characters, as 40k or 152M."""
    return [_trimmed(short(tick)) for tick in ticks]


def shares(ticks: Sequence[float]) -> list[str]:
    """Returns shares of one in percent."""
    return [f"{100 * tick:g}%" for tick in ticks]


def _trimmed(text: str) -> str:
    """Removes zeros behind a decimal point: 2.00k is 2k."""
    digits = text.rstrip("kMG")
    unit = text[len(digits) :]
    return (digits.rstrip("0").rstrip(".") if "." in digits else digits) + unit


def time_unit(seconds: float) -> tuple[float, str]:
    """Returns the seconds of the unit that suits a duration, and its name."""
    if seconds >= 7200:
        return 3600.0, "h"
    return (60.0, "min") if seconds >= 120 else (1.0, "s")
