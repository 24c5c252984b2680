"""An early stop, exact under resume: it decides by the run's metrics.jsonl alone."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from metarl.callbacks.callback import Callback, Start
from metarl.errors import UserError
from metarl.runs import metrics as log
from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import by_step

MEASURES = {"return": 1.0, "accuracy": 1.0, "loss": -1.0}
"""Measures that say how good adaptation is -> the sign of what is better."""


class EarlyStopping(Callback):
    """Ends training after `patience` iterations without a better result after adaptation.

    The result is the mean over the last `window` iterations of the return after the last
    adaptation step; of supervised tasks the accuracy, or minus the loss. It is better if it exceeds
    the best one so far by more than `min_delta`. A continued run decides as an uninterrupted one.

    Args:
        patience: iterations without a better result.
        min_delta: smallest gain that counts, in the units of the result.
        window: iterations that are averaged; a single iteration is noisy.
        metric: a key of metrics.jsonl in place of the result, the higher the better; a `-` before
            it turns that round.
    """

    def __init__(
        self, patience: int, min_delta: float = 0.0, window: int = 10, metric: str | None = None
    ):
        """
        Raises:
            UserError: for a number out of range.
        """
        for name, value, least in (("patience", patience, 1), ("window", window, 1)):
            if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
                raise UserError(
                    f"EarlyStopping: {name} is {value!r}; give a whole number, 1 or more"
                )
        number = isinstance(min_delta, Real) and not isinstance(min_delta, bool)
        if not number or not math.isfinite(min_delta) or min_delta < 0:
            raise UserError(f"EarlyStopping: min_delta is {min_delta!r}; give a number, 0 or more")
        if not isinstance(metric, str | None):
            raise UserError(f"EarlyStopping: metric is {metric!r}; give a key of metrics.jsonl")
        self.patience, self.min_delta, self.window = int(patience), float(min_delta), int(window)
        self.metric = metric
        self._begin()

    def on_start(self, start: Start) -> None:
        """Reads the iterations before."""
        self._begin()
        path = RunDirectory(start.run_dir).metrics
        if start.iteration and path.exists():
            for row in log.each(path):
                if row["iteration"] <= start.iteration:
                    self._see(row)

    def on_iteration(self, metrics: Mapping[str, float], agent: Any) -> None:
        del agent
        self._see(metrics)

    def _begin(self) -> None:
        self.stop, self.best, self.best_iteration = "", -math.inf, 0
        self._last: deque[float] = deque(maxlen=self.window)

    def _see(self, row: Mapping[str, float]) -> None:
        if self.stop:
            return
        now = int(row["iteration"])
        self._last.append(self._value(row))
        mean = sum(self._last) / len(self._last)
        if mean > self.best + self.min_delta or not self.best_iteration:
            self.best = mean if math.isfinite(mean) else -math.inf
            self.best_iteration = now
        elif now - self.best_iteration >= self.patience:
            self.stop = (
                f"no better result in {self.patience} iterations; "
                f"the best was {self.best:.4g} at iteration {self.best_iteration}"
            )

    def _value(self, row: Mapping[str, float]) -> float:
        if self.metric is not None:
            sign, name = (
                (-1.0, self.metric[1:]) if self.metric.startswith("-") else (1.0, self.metric)
            )
            if name not in row:
                raise UserError(
                    f"EarlyStopping: metrics.jsonl has no {name!r}; it has {', '.join(row)}"
                )
            return sign * row[name]
        for name in ("accuracy", "return", "loss"):
            if values := by_step(row, name):
                return MEASURES[name] * values[-1]
        raise UserError("EarlyStopping: the metrics hold no result after adaptation; give metric=")
