"""Statistics of learners over seeds and tasks, in numpy alone.

Scores are [N, K]: one for each of N seeds in each of K tasks, with a task's episodes averaged. A
seed is one training run, which is evaluated in all tasks. So its scores share what chance did in
that training, and the scores of a task share what is hard about it. Seeds and tasks are crossed.

A bootstrap sample has N seeds and K tasks, drawn with replacement:

* `both` draws whole seeds and, independently, whole tasks (arXiv:0712.1111, the pigeonhole
  bootstrap). It is metarl's own choice. An interval then covers other seeds and other tasks of the
  same distribution. It is slightly wide where neither seeds nor tasks matter.
* `seeds` draws whole seeds and keeps the tasks: other seeds in these very tasks.
* `tasks` draws whole tasks and keeps the seeds: these very agents in other tasks. With one seed
  nothing else can be said.
* `stratified` keeps the tasks and draws seeds anew for each task: that of arXiv:2108.13264 and of
  rliable. It supposes that the runs of different tasks are independent, as on Atari, where each
  game has its own training. Meta-learning has one training for all tasks. The chance of a seed
  then averages out over tasks that share it, and the interval is too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from metarl.runs.statistics import RESAMPLES, interquartile_mean, interval95

Draw: TypeAlias = Literal["both", "seeds", "tasks", "stratified"]
"""Units that a bootstrap sample draws."""
Statistic: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Function of scores [..., N, K] that returns [...]."""

MOST_DRAWS = 50_000_000
"""Scores that all samples together hold; of more than 10,000 scores there are fewer samples."""
AT_ONCE = 1_000_000
"""Scores of the samples that are in memory together."""
MOST_SPLITS = 20_000
"""Ways to divide seeds among two learners up to which all are tried; of more a part is drawn."""
THRESHOLDS = 101
"""Points of a performance profile."""


class Interval(NamedTuple):
    """Estimate with the ends of its 95% interval; NaN where nothing was drawn."""

    estimate: float
    low: float
    high: float


class Profile(NamedTuple):
    """Share of scores above each threshold, with a pointwise 95% band."""

    thresholds: np.ndarray  # [T]
    share: np.ndarray  # [T] in [0, 1]
    low: np.ndarray  # [T]
    high: np.ndarray  # [T]


class Paired(NamedTuple):
    """Difference of two learners on the same tasks, first minus second."""

    difference: Interval
    """Mean over tasks and seeds."""
    p_seeds: float
    """Two-sided p-value for other seeds: all ways to divide the seeds among the learners. NaN
    where neither has two."""
    p_tasks: float
    """Two-sided p-value for other tasks: signs of the tasks' differences are flipped. It takes the
    seeds as they are."""
    smallest_p_seeds: float
    """Smallest value that `p_seeds` can have with as many seeds."""


def iqm(scores: np.ndarray) -> np.ndarray:
    """Interquartile mean over seeds and tasks together, [..., N, K] -> [...].

    arXiv:2108.13264: the mean without the lowest and the highest quarter of all N K scores. N K / 4
    is rounded down.
    """
    flat = scores.reshape(*scores.shape[:-2], -1)
    return interquartile_mean(np.moveaxis(flat, -1, 0))


def mean(scores: np.ndarray) -> np.ndarray:
    """Mean over seeds and tasks, [..., N, K] -> [...]."""
    return scores.mean(axis=(-2, -1))


def probability_of_improvement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Probability that a run of the first learner beats one of the second, [..., N, K] -> [...].

    arXiv:2108.13264: in each task the share of pairs of seeds in which the first has the higher
    score, with ties counted half; then the mean over tasks. The numbers of seeds may differ.
    """
    ours, theirs = first[..., :, None, :], second[..., None, :, :]
    wins = (ours > theirs).mean(axis=(-3, -2), dtype=np.float64)
    ties = (ours == theirs).mean(axis=(-3, -2), dtype=np.float64)
    return (wins + ties / 2).mean(axis=-1)


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Difference of the means over seeds and tasks, [..., N, K] -> [...]."""
    return mean(first) - mean(second)


def resampled(
    statistic: Callable[..., np.ndarray],
    *scores: np.ndarray,
    draw: Draw = "both",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """Returns the statistic of bootstrap samples, [resamples, ...].

    Args:
        statistic: function of as many arrays [R, N, K] as there are `scores`.
        scores: those of one learner or of several on the same tasks, [N, K]. The learners share the
            tasks that are drawn, and each has seeds of its own.
        draw: what is drawn: see the module.
        seed: equal seeds and scores give equal samples.
    """
    _check(*scores)
    held = sum(learner.size for learner in scores)
    resamples = max(min(resamples, MOST_DRAWS // held), 100)
    at_once = max(1, AT_ONCE // held)
    rng = np.random.default_rng(seed)
    sizes = [min(at_once, resamples - start) for start in range(0, resamples, at_once)]
    return np.concatenate([statistic(*_samples(scores, draw, size, rng)) for size in sizes])


def _samples(
    scores: tuple[np.ndarray, ...], draw: Draw, size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yields bootstrap samples of each learner's scores, [size, N, K]."""
    num_tasks = scores[0].shape[1]
    tasks = np.arange(num_tasks)[None, None]
    if draw in ("both", "tasks"):
        tasks = rng.integers(num_tasks, size=(size, 1, num_tasks))
    for learner in scores:
        num_seeds = len(learner)
        seeds = np.arange(num_seeds)[None, :, None]
        if draw == "stratified":
            seeds = rng.integers(num_seeds, size=(size, num_seeds, num_tasks))
        elif draw != "tasks":
            seeds = rng.integers(num_seeds, size=(size, num_seeds, 1))
        yield np.broadcast_to(learner[seeds, tasks], (size, *learner.shape))


def estimated(
    statistic: Callable[..., np.ndarray],
    *scores: np.ndarray,
    draw: Draw = "both",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Returns the statistic of the scores with its interval; arguments as `resampled`.

    The ends are NaN where what is drawn is one alone, such as a single seed.
    """
    estimate = float(statistic(*scores))
    if not any(_varies(learner, draw) for learner in scores):
        return Interval(estimate, math.nan, math.nan)
    found = resampled(statistic, *scores, draw=draw, resamples=resamples, seed=seed)
    low, high = interval95(found)
    return Interval(estimate, float(low), float(high))


def _varies(scores: np.ndarray, draw: Draw) -> bool:
    """Returns whether samples of these scores can differ at all."""
    seeds, tasks = scores.shape
    return (seeds > 1 and draw != "tasks") or (tasks > 1 and draw in ("both", "tasks"))


def performance_profile(
    scores: np.ndarray,
    thresholds: np.ndarray,
    draw: Draw = "both",
    resamples: int = 1000,
    seed: int = 0,
) -> Profile:
    """Returns the share of all N K scores above each of the thresholds, [T].

    arXiv:2108.13264, the run-score distribution.
    """

    def above(samples: np.ndarray) -> np.ndarray:
        flat = np.sort(samples.reshape(*samples.shape[:-2], -1), axis=-1)
        size = flat.shape[-1]
        if flat.ndim == 1:
            return 1 - np.searchsorted(flat, thresholds, side="right") / size
        found = [np.searchsorted(row, thresholds, side="right") for row in flat]
        return 1 - np.array(found) / size

    share = above(scores)
    if not _varies(scores, draw):
        unknown = np.full(len(thresholds), np.nan)
        return Profile(thresholds, share, unknown, unknown)
    ends = interval95(resampled(above, scores, draw=draw, resamples=resamples, seed=seed))
    return Profile(thresholds, share, ends[:, 0], ends[:, 1])


def thresholds_of(*scores: np.ndarray) -> np.ndarray:
    """Returns thresholds over the range of all learners' scores, [T].

    They are evenly spaced, or their logarithms where scores are above zero and span two decades.
    """
    low = min(float(learner.min()) for learner in scores)
    high = max(float(learner.max()) for learner in scores)
    return (np.geomspace if 0 < 100 * low < high else np.linspace)(low, high, THRESHOLDS)


def paired_difference(
    first: np.ndarray,
    second: np.ndarray,
    draw: Draw = "both",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """Compares two learners on the same tasks, [N, K] and [M, K].

    The bootstrap draws the same tasks for both, so what is hard about a task cancels. Seeds of
    different learners have nothing in common and are drawn apart.

    Raises:
        ValueError: for different numbers of tasks.
    """
    _check(first, second)
    found = estimated(difference, first, second, draw=draw, resamples=resamples, seed=seed)
    p_seeds, smallest = _p_of_seeds(first.mean(axis=1), second.mean(axis=1), seed)
    p_tasks = sign_flip(first.mean(axis=0) - second.mean(axis=0), seed)
    return Paired(found, p_seeds, p_tasks, smallest)


def _p_of_seeds(first: np.ndarray, second: np.ndarray, seed: int) -> tuple[float, float]:
    """Returns the p-value of a permutation test of seeds' mean scores, [N] and [M], and the
    smallest that it can have."""
    values, ours = np.concatenate([first, second]), len(first)
    values = values - values.mean()  # what all have in common would only add rounding errors
    splits = math.comb(len(values), ours)
    if len(values) < 3:
        return math.nan, math.nan
    if splits <= MOST_SPLITS:
        chosen = np.array(list(combinations(range(len(values)), ours)))
    else:
        rng = np.random.default_rng(seed)
        order = rng.permuted(np.tile(np.arange(len(values)), (MOST_SPLITS, 1)), axis=1)
        chosen = np.concatenate([np.arange(ours)[None], order[:, :ours]])  # the observed one too
    totals, rest = values[chosen].sum(axis=1), values.sum()
    gaps = np.abs(totals / ours - (rest - totals) / (len(values) - ours))
    observed = abs(values[:ours].mean() - values[ours:].mean())
    smallest = (2 if ours == len(second) else 1) / splits
    return _share_at_least(gaps, observed), max(smallest, 1 / len(chosen))


def sign_flip(differences: np.ndarray, seed: int = 0, draws: int = MOST_SPLITS) -> float:
    """Two-sided p-value of a sign-flip test that differences [K] are symmetric around zero.

    All 2^K signs are tried where they are few. Otherwise `draws` are drawn, and the observed ones
    count as one of them, so that the value is never zero. NaN for a single difference.
    """
    size = len(differences)
    if size < 2:
        return math.nan
    if 2**size <= draws:
        signs = 1 - 2 * (np.arange(2**size)[:, None] >> np.arange(size) & 1)
    else:
        drawn = np.random.default_rng(seed).integers(2, size=(draws, size), dtype=np.int8)
        signs = np.concatenate([np.ones((1, size), np.int8), 1 - 2 * drawn])
    return _share_at_least(np.abs(signs @ differences) / size, abs(differences.mean()))


def _share_at_least(found: np.ndarray, observed: float) -> float:
    """Returns the share of values at least as large as the observed one, but for rounding."""
    return float((found >= observed - 1e-9 * found.max()).mean())


def holm(p_values: np.ndarray) -> np.ndarray:
    """Returns p-values for as many tests at once (Holm 1979), [P]; NaN stays and does not count."""
    adjusted = np.array(p_values, float)
    known = np.flatnonzero(np.isfinite(adjusted))
    order = known[np.argsort(adjusted[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(adjusted[order] * factors), 1.0)
    return adjusted


def _check(*scores: np.ndarray) -> None:
    """Raises a ValueError for arrays that are no scores [N, K] of the same K tasks."""
    for learner in scores:
        if learner.ndim != 2 or not learner.size:
            raise ValueError(f"scores have shape {learner.shape}, not seeds x tasks")
        if learner.shape[1] != scores[0].shape[1]:
            raise ValueError(
                f"scores are of {scores[0].shape[1]} and {learner.shape[1]} tasks; pair the same"
            )
        if not np.isfinite(learner).all():
            raise ValueError("scores hold a number that is not finite")
