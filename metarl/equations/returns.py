"""Returns, the linear baseline and advantages of episodes; time is axis -2, episodes axis -1."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def _summed_back(terms: Tensor, keep: Tensor) -> Tensor:
    """Returns x_t = terms_t + keep_t x_(t+1), from the last step back, [..., T, E].

    In log2 T passes in place of T steps: before each, `sums` has the terms of `span` steps, and
    `keep` their product of that many factors (Hillis and Steele 1986).
    """
    sums, keep, span = terms.clone(), keep.to(terms.dtype, copy=True), 1
    while span < terms.shape[-2]:
        sums[..., :-span, :] += keep[..., :-span, :] * sums[..., span:, :]
        keep[..., :-span, :] *= keep[..., span:, :].clone()
        span *= 2
    return sums


def discounted_returns(rewards: Tensor, ended: Tensor, discount: float) -> Tensor:
    """sum_k discount^k r_{t+k} to the end of the episode, [..., T, E].

    `ended` [..., T, E] is True at an episode's last step; later rewards do not count.
    """
    return _summed_back(rewards, discount * ~ended)


def baseline_features(obs: Tensor) -> Tensor:
    """Features obs, obs^2, t/100, its square and cube, 1: [..., T, E, obs_dim] -> [..., T, E,
    2 obs_dim + 4].

    This is the linear feature baseline of arXiv:1604.06778, section 5, in float64. Observations
    are clipped to [-10, 10] as in the published code.
    """
    x, steps = obs.double().clamp(-10.0, 10.0), obs.shape[-3]
    t = (torch.arange(steps, device=obs.device, dtype=torch.float64) / 100.0)[:, None, None]
    powers = torch.cat([t, t**2, t**3, torch.ones_like(t)], dim=-1)
    return torch.cat([x, x.square(), powers.expand(*obs.shape[:-1], 4)], dim=-1)


MEANS = 32
"""Most means of an image, over parts of each channel, that the linear baseline reads; a channel has
one at least. Measured in MiniGrid with 10 episodes, 98 steps, of a random policy: with every pixel,
1,062 features, the share of the returns' variance that is explained is 0.73 there and -2.5 on fresh
episodes, so that advantages would be noise; with 54 features 0.27 and -0.45, and 0.17 and -0.42
without the image."""


def pooled(obs: Tensor, image: tuple[int, int, int]) -> Tensor:
    """Returns obs [..., n] with the image (channels, height, width) that they begin with as means
    over equal parts of each channel, `MEANS` in all."""
    channels, *sides = image
    pixels, cells = channels * sides[0] * sides[1], max(1, math.isqrt(MEANS // channels))
    grid = min(cells, sides[0]), min(cells, sides[1])
    images = obs[..., :pixels].reshape(-1, channels, *sides)
    means = F.adaptive_avg_pool2d(images, grid).reshape(*obs.shape[:-1], -1)
    return torch.cat([means, obs[..., pixels:]], -1)


class NormalEquations(NamedTuple):
    """Least squares of the linear baseline for each task: gram w = target, values = features w."""

    features: Tensor  # [..., T E, n] float64
    gram: Tensor  # [..., n, n]
    targets: Tensor  # [..., n, 1]

    @classmethod
    def of(cls, obs: Tensor, returns: Tensor, mask: Tensor, ridge: float) -> NormalEquations:
        """F^T F + ridge I and F^T returns over the steps where `mask` holds."""
        features = (baseline_features(obs) * mask[..., None]).flatten(-3, -2)
        gram = features.mT @ features
        gram.diagonal(dim1=-2, dim2=-1).add_(ridge)
        return cls(features, gram, features.mT @ returns.double().flatten(-2)[..., None])

    def solved(self) -> Tensor:
        """Returns w, [..., n, 1]. On a GPU the solver is no part of a graph."""
        return torch.linalg.solve_ex(self.gram, self.targets)[0]  # `solve` would await the GPU


def fitted_values(obs: Tensor, returns: Tensor, mask: Tensor, ridge: float) -> Tensor:
    """Fits the linear baseline to the returns of each task; its values there, [..., T, E]."""
    equations = NormalEquations.of(obs, returns, mask, ridge)
    return (equations.features @ equations.solved()).view_as(returns).to(returns.dtype)


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    ended: Tensor,
    discount: float,
    gae_lambda: float,
) -> Tensor:
    """Generalized advantage estimates, [..., T, E].

    arXiv:1506.02438, Eq. 16. Termination zeroes the bootstrap; termination and truncation both
    stop the sum.
    """
    deltas = rewards + discount * next_values * ~terminated - values
    keep = discount * gae_lambda * ~ended
    return _summed_back(deltas, keep)


def standardize(x: Tensor, weights: Tensor, epsilon: float = 1e-8) -> Tensor:
    """(x - mean) / (std + epsilon) under `weights` [..., N] that sum to one over the last axis.

    `std` is the population's standard deviation. The result is zero where the weight is zero.
    """
    mean = (weights * x).sum(-1, keepdim=True)
    centred = torch.where(weights > 0, x - mean, 0.0)
    std = (weights * centred.square()).sum(-1, keepdim=True).sqrt()
    return centred / (std + epsilon)
