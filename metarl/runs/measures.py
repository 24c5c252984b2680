"""Measures of an evaluation: returns of episodes, or error or accuracy on few-shot queries."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

HUGE = 1e12
"""Size from which on a number is written with an exponent; its digits would fill a table."""


class Measure(NamedTuple):
    """Measure with a value for each task, adaptation step and episode, and its presentation."""

    name: str
    """Name in tables, titles and adaptation.json."""
    label: str
    """Label of its axis."""
    key: str = "values"
    """Key of the values in adaptation.json."""
    used: str = "examples"
    """Name of what adaptation uses up: env steps or examples."""
    of_episodes: bool = False
    """Whether a task has several episodes at each step, with success where defined."""
    lower_is_better: bool = False
    """Whether it is an error, at least zero, which is best shown on a logarithmic axis."""
    share: bool = False
    """Whether it is a share in [0, 1], shown in percent."""

    @property
    def column(self) -> str:
        """Column of the values in adaptation.csv."""
        return self.name.replace("-", "_").replace(" ", "_")

    @property
    def used_key(self) -> str:
        """Key of `used` in adaptation.json and adaptation.csv."""
        return self.used.replace(" ", "_")

    def digits(self, figures: np.ndarray) -> int:
        """Returns the number of decimals for a table; small figures get more."""
        if self.share:
            return 1
        sizes = np.abs(figures[np.isfinite(figures)])
        if self.lower_is_better:
            return decimals(sizes[sizes > 0].min(initial=math.inf))
        return 2 if sizes.max(initial=0.0) < 10.0 else 1

    def text(self, value: float, digits: int) -> str:
        """Returns a value as text, empty if it is not finite."""
        if not math.isfinite(value):
            return ""
        if abs(value) >= HUGE:
            return f"{value:.3g}"
        return f"{100 * value:.{digits}f}%" if self.share else f"{value:.{digits}f}"


RETURN = Measure(
    "return", "mean undiscounted return", key="returns", used="env steps", of_episodes=True
)
MEAN_SQUARED_ERROR = Measure(
    "mean-squared error", "mean-squared error on the query", lower_is_better=True
)
ACCURACY = Measure("accuracy", "query examples classified correctly", share=True)

MEASURES = {measure.name: measure for measure in (RETURN, MEAN_SQUARED_ERROR, ACCURACY)}


def decimals(value: float) -> int:
    """Returns the number of decimals, at most six, that shows three significant digits."""
    if not (math.isfinite(value) and value):
        return 2
    return min(max(0, 2 - math.floor(math.log10(abs(value)))), 6)
