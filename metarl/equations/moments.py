"""Count, mean and sum of squared deviations of samples that arrive in parts. Float64."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """What is known of the samples so far."""

    count: Tensor  # []
    mean: Tensor  # [...]
    m2: Tensor  # [...], the sum of squared deviations from the mean


def nothing(*shape: int, device: torch.device | None = None) -> Moments:
    """The moments of no sample of shape [...]: all zero."""
    zeros = [torch.zeros(s, dtype=torch.float64, device=device) for s in ((), shape, shape)]
    return Moments(*zeros)


def moments_of(samples: Tensor, mask: Tensor) -> Moments:
    """Of `samples` [*mask.shape, ...] where `mask` holds; elsewhere they may be anything."""
    valid = samples[mask].double()
    count = mask.sum(dtype=torch.float64)
    mean = valid.sum(0) / count.clamp(min=1.0)
    return Moments(count, mean, (valid - mean).square().sum(0))


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of both parts together.

    Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances" (Stanford, CS-TR-79-773), with means in place of its sums.
    """
    count = a.count + b.count
    share, delta = b.count / count.clamp(min=1.0), b.mean - a.mean
    mean = a.mean + share * delta
    return Moments(count, mean, a.m2 + b.m2 + a.count * share * delta.square())


def deviation(moments: Moments, epsilon: float = 1e-8) -> Tensor:
    """sqrt(variance + epsilon), the population's; one where nothing was seen."""
    variance = moments.m2 / moments.count.clamp(min=1.0)
    return torch.where(moments.count > 0, (variance + epsilon).sqrt(), 1.0)
