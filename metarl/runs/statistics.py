"""Statistics over tasks, for tables and curves.

Values are [K, ...]: one per held-out task, with any further axes. The task is the unit of
sampling, so a task's episodes are averaged first: they are not independent of one another.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RESAMPLES = 5000
"""Number of bootstrap samples; another seed then moves a 95% interval by about 2% of its width."""

MOST_DRAWS = 10_000_000
"""Tasks that all samples together hold; of more than 2,000 tasks there are fewer samples."""


class Summary(NamedTuple):
    """Statistics over tasks, one per adaptation step."""

    mean: np.ndarray  # [S]
    stderr: np.ndarray  # [S] of the mean
    iqm: np.ndarray  # [S] interquartile mean
    ci95: np.ndarray  # [S, 2] of the mean: low, high; NaN for a single task


def summarise(values: np.ndarray) -> Summary:
    """Computes statistics of `values` [K, S, E]; equal values give equal results."""
    with np.errstate(over="ignore", invalid="ignore"):  # infinity, of values near the largest
        by_task = values.mean(axis=-1, dtype=np.float64)
        ci95 = interval95(resampled_means(by_task, np.random.default_rng(0)))
        if len(by_task) < 2:  # one task says nothing of others
            ci95 = np.full_like(ci95, np.nan)
        return Summary(by_task.mean(axis=0), stderr(by_task), interquartile_mean(by_task), ci95)


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


def resampled_means(
    values: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES
) -> np.ndarray:
    """Means of bootstrap samples of the tasks, [K, ...] -> [resamples, ...].

    A resample draws whole tasks: the other axes stay together, so the intervals of all adaptation
    steps come from the same draws. The average of such means over groups of tasks is a stratified
    bootstrap sample.
    """
    tasks = len(values)
    resamples = max(MOST_DRAWS // tasks, 100) if resamples * tasks > MOST_DRAWS else resamples
    at_once = max(1, 200_000 // (values.size or 1))  # all would take gigabytes
    sizes = [min(at_once, resamples - start) for start in range(0, resamples, at_once)]
    parts = (rng.integers(tasks, size=(size, tasks)) for size in sizes)
    return np.concatenate([values[part].mean(axis=1) for part in parts])


def interval95(estimates: np.ndarray) -> np.ndarray:
    """Percentile interval of bootstrap estimates, [resamples, ...] -> [..., 2]: low, high."""
    tail = (1 - 0.95) / 2
    return np.moveaxis(np.quantile(estimates, [tail, 1 - tail], axis=0), 0, -1)
