"""What an evaluation measures: returns of episodes, or how well few examples were learned from."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Measure(NamedTuple):
    """One value for each task, adaptation step and episode, and how it is shown."""

    name: str
    """In tables, titles and adaptation.json."""
    label: str
    """Of an axis."""
    key: str = "values"
    """What adaptation.json calls the values."""
    used: str = "examples"
    """What a task has used by each adaptation step."""
    of_episodes: bool = False
    """Whether a task has several values at each step, of episodes that may be solved."""
    lower_is_better: bool = False
    """An error: zero at best, and it falls by factors rather than by differences."""
    share: bool = False
    """Whether it is a share of one, shown in percent."""

    @property
    def column(self) -> str:
        """Its name in adaptation.csv."""
        return self.name.replace("-", "_").replace(" ", "_")

    @property
    def used_key(self) -> str:
        """What adaptation.json and .csv call what a task has used."""
        return self.used.replace(" ", "_")

    def digits(self, figures: np.ndarray) -> int:
        """Behind the point, in all of a table: more where its figures are small."""
        if self.share:
            return 1
        sizes = np.abs(figures[np.isfinite(figures)])
        if self.lower_is_better:
            return decimals(sizes[sizes > 0].min(initial=math.inf))
        return 2 if sizes.max(initial=0.0) < 10.0 else 1

    def text(self, value: float, digits: int) -> str:
        """Empty for what is not known."""
        if not math.isfinite(value):
            return ""
        return f"{100 * value:.{digits}f}%" if self.share else f"{value:.{digits}f}"


RETURN = Measure(
    "return", "mean undiscounted return", key="returns", used="env steps", of_episodes=True
)
MEAN_SQUARED_ERROR = Measure(
    "mean-squared error", "mean-squared error on the query", lower_is_better=True
)
ACCURACY = Measure("accuracy", "query examples classified rightly", share=True)

MEASURES = {measure.name: measure for measure in (RETURN, MEAN_SQUARED_ERROR, ACCURACY)}


def decimals(value: float) -> int:
    """Digits behind the point, at most six, that show three of the value's own."""
    if not (math.isfinite(value) and value):
        return 2
    return min(max(0, 2 - math.floor(math.log10(abs(value)))), 6)
