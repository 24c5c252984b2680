"""Running count, mean and sum of squared deviations of samples that come in batches; float64."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class RunningStats(NamedTuple):
    """Statistics of the samples so far."""

    count: Tensor  # []
    mean: Tensor  # [...]
    m2: Tensor  # [...], the sum of squared deviations from the mean


def no_stats(*shape: int, device: torch.device | None = None) -> RunningStats:
    """Returns the statistics before the first sample of this shape: zero."""
    zeros = [torch.zeros(s, dtype=torch.float64, device=device) for s in ((), shape, shape)]
    return RunningStats(*zeros)


def stats_of(samples: Tensor, mask: Tensor) -> RunningStats:
    """Returns the statistics of `samples` [*mask.shape, ...] where `mask` is True."""
    valid = samples[mask].double()
    count = mask.sum(dtype=torch.float64)
    mean = valid.sum(0) / count.clamp(min=1.0)
    return RunningStats(count, mean, (valid - mean).square().sum(0))


def merge(a: RunningStats, b: RunningStats) -> RunningStats:
    """Returns the statistics of both sets of samples together.

    Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances" (Stanford, CS-TR-79-773), written with means instead of sums.
    """
    count = a.count + b.count
    share, delta = b.count / count.clamp(min=1.0), b.mean - a.mean
    mean = a.mean + share * delta
    return RunningStats(count, mean, a.m2 + b.m2 + a.count * share * delta.square())


def deviation(stats: RunningStats, epsilon: float = 1e-8) -> Tensor:
    """Returns sqrt(population variance + epsilon), or one where there was no sample."""
    variance = stats.m2 / stats.count.clamp(min=1.0)
    return torch.where(stats.count > 0, (variance + epsilon).sqrt(), 1.0)
