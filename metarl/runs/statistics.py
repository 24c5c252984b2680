"""Statistics over tasks, for tables and curves.

Values are [K, ...]: one per held-out task, with any further axes. The task is the unit of
sampling, so a task's episodes are averaged first: they are not independent of one another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

RESAMPLES = 5000
"""Number of bootstrap samples; another seed then moves a 95% interval by about 2% of its width."""


class Summary(NamedTuple):
    """Statistics over tasks, one per adaptation step."""

    mean: np.ndarray  # [S]
    stderr: np.ndarray  # [S] of the mean
    iqm: np.ndarray  # [S] interquartile mean
    ci95: np.ndarray  # [S, 2] of the mean: low, high


def summarise(values: np.ndarray, seed: int = 0) -> Summary:
    """Computes statistics of `values` [K, S, E]; equal values and seeds give equal results."""
    by_task = values.mean(axis=-1, dtype=np.float64)
    interval = bootstrap_interval(by_task, mean, np.random.default_rng(seed))
    return Summary(
        mean(by_task), stderr(by_task), interquartile_mean(by_task), np.stack(interval, axis=-1)
    )


def mean(values: np.ndarray) -> np.ndarray:
    """Mean over tasks, [K, ...] -> [...]."""
    return values.mean(axis=0)


def stderr(values: np.ndarray) -> np.ndarray:
    """Standard error of the mean, [K, ...] -> [...]; NaN for a single task."""
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean without the lowest and the highest quarter of the tasks, [K, ...] -> [...].

    arXiv:2108.13264. K / 4 is rounded down.
    """
    cut = len(values) // 4
    return np.sort(values, axis=0)[cut : len(values) - cut].mean(axis=0)


def bootstrap_interval(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval over tasks, [K, ...] -> low [...] and high [...].

    A resample draws whole tasks: the other axes stay together, so the intervals of all adaptation
    steps come from the same draws.

    Args:
        statistic: function from [K, ...] to [...].
    """
    draws = _draws(len(values), rng, resamples)
    return percentile_interval(np.stack([statistic(values[draw]) for draw in draws]), level)


def resampled_means(
    values: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES
) -> np.ndarray:
    """Means of bootstrap samples of the tasks, [K, ...] -> [resamples, ...].

    The average of such means over groups of tasks is a stratified bootstrap sample.
    """
    return values[_draws(len(values), rng, resamples)].mean(axis=1)


def percentile_interval(
    estimates: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of bootstrap estimates, [resamples, ...] -> low [...] and high [...]."""
    tail = (1 - level) / 2
    low, high = np.quantile(estimates, [tail, 1 - tail], axis=0)
    return low, high


def _draws(count: int, rng: np.random.Generator, resamples: int) -> np.ndarray:
    return rng.integers(count, size=(resamples, count))
