"""A model of how sampling and update scale, in a few lines.

* A round takes serial + ceil(U / N) * unit: N workers play U units of equal size, and in the serial
  part no worker plays. It is measured, or else fitted.
* An update takes held + divided / N, and so does the adaptation between rounds. `held` is the part
  that no second thread makes faster, such as Python code under the interpreter's lock. Both are
  fitted to the measured points. They run on one machine, so N is at most ONE_MACHINE.

A batch with b times as many tasks has b times as many units. The model also takes b times as long
for all other parts. That is the worst case, since some of them do not depend on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from scipy.optimize import nnls

ONE_MACHINE = 64
"""Most cores of the machine that learns; further cores play on other machines."""


@dataclass(frozen=True)
class Measured:
    """Times of several iterations with one number of workers."""

    workers: int
    units: int
    env_steps: Sequence[int]
    sampling_s: Sequence[float]
    update_s: Sequence[float]
    rounds_s: Sequence[float]
    """Time of the rounds alone; zeros where it is not measured."""
    slowest_s: Sequence[float]
    """Time that the slowest worker of each round worked."""
    mean_s: Sequence[float]
    """Time that workers worked, on average."""

    @property
    def known(self) -> bool:
        """Whether the times of the rounds were measured."""
        return min(self.rounds_s) > 0

    @property
    def serial(self) -> float:
        """Share of the rounds in which no worker works."""
        return _share(self.rounds_s, self.slowest_s)

    @property
    def between(self) -> float:
        """Share of sampling between rounds, above all the adaptation."""
        return _share(self.sampling_s, self.rounds_s)

    @property
    def uneven(self) -> float:
        """Time of the slowest workers over the mean of all."""
        return median(a / b for a, b in zip(self.slowest_s, self.mean_s, strict=True))


def _share(whole: Sequence[float], part: Sequence[float]) -> float:
    """Returns the median share of `whole` that is not `part`."""
    return max(0.0, median(1 - b / a for a, b in zip(whole, part, strict=True)))


def speedup(first: Sequence[float], seconds: Sequence[float]) -> list[float]:
    """Returns how many times as fast each turn was as the turn of `first` beside it."""
    return [a / b for a, b in zip(first, seconds, strict=True)]


@dataclass(frozen=True)
class ThreadedModel:
    """Time of a part that no second thread makes faster, and of one that threads divide."""

    held_s: float
    divided_s: float

    def seconds(self, workers: int, batches: float = 1.0) -> float:
        return batches * (self.held_s + self.divided_s / min(workers, ONE_MACHINE))


@dataclass(frozen=True)
class SamplingModel:
    """Time of the rounds, whose units workers divide among them, and of what is between rounds."""

    serial_s: float
    unit_s: float
    units: int
    between: ThreadedModel

    def seconds(self, workers: int, batches: float = 1.0) -> float:
        most = math.ceil(round(batches * self.units) / workers)
        rounds = batches * self.serial_s + most * self.unit_s
        return rounds + self.between.seconds(workers, batches)


def sampling_model(points: Sequence[Measured]) -> SamplingModel:
    """Returns the model by the share with the most workers, or else by a fit of all points."""
    last = points[-1]
    if not last.known:
        shares = [math.ceil(x.units / x.workers) for x in points]
        serial, unit = _fit(shares, [median(x.sampling_s) for x in points])
        return SamplingModel(serial, unit, last.units, ThreadedModel(0.0, 0.0))
    whole, most = median(last.rounds_s), math.ceil(last.units / last.workers)
    between = [
        (x.workers, median(a - b for a, b in zip(x.sampling_s, x.rounds_s, strict=True)))
        for x in points
    ]
    return SamplingModel(
        last.serial * whole, (1 - last.serial) * whole / most, last.units, _threaded(between)
    )


def update_model(points: Sequence[Measured]) -> ThreadedModel:
    """Returns the model that fits the measured updates best."""
    return _threaded([(x.workers, median(x.update_s)) for x in points])


def _threaded(seconds: Sequence[tuple[int, float]]) -> ThreadedModel:
    """Returns the model that fits these pairs of threads and seconds best."""
    return ThreadedModel(*_fit([1 / n for n, _ in seconds], [s for _, s in seconds]))


def _fit(shares: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Returns a and b >= 0 of seconds = a + b * share, by least squares of the relative errors.

    One point says nothing of a: all of its time is then divided.
    """
    if len(shares) == 1:
        return 0.0, seconds[0] / shares[0]
    weights = 1 / np.array(seconds)
    found, _ = nnls(np.stack([weights, weights * np.array(shares)], axis=1), np.ones(len(shares)))
    return float(found[0]), float(found[1])
