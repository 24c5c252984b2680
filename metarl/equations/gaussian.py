"""Diagonal Gaussian policies: log-densities, divergences and their curvature."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

LOG_2PI = math.log(2.0 * math.pi)


class Gaussian(NamedTuple):
    """Independent normal distributions over the action dimensions."""

    mean: Tensor  # [..., act_dim]
    log_std: Tensor  # broadcastable to mean: natural logarithm of the standard deviation

    noise = "normal"
    """The kind of noise that `sample` takes."""

    def sample(self, noise: Tensor) -> Tensor:
        """Returns actions [..., act_dim] from standard normal `noise` of that shape."""
        return self.mean + self.log_std.exp() * noise

    def mode(self) -> Tensor:
        return self.mean

    def log_probs(self, actions: Tensor) -> Tensor:
        """log p(action), summed over the action dimensions: [...]."""
        z = (actions - self.mean) * torch.exp(-self.log_std)
        per_dimension = -0.5 * (z.square() + LOG_2PI) - self.log_std
        return per_dimension.sum(-1)

    def kl(self, new: Gaussian) -> Tensor:
        """KL(self || new), summed over the action dimensions: [...]."""
        ratio = torch.exp(2.0 * (self.log_std - new.log_std))
        shift = ((self.mean - new.mean) * torch.exp(-new.log_std)).square()
        return 0.5 * (ratio + shift - 1.0 - 2.0 * (self.log_std - new.log_std)).sum(-1)

    def fisher(self, tangent: Gaussian) -> Gaussian:
        """Hessian of KL(self || new) in new = (mean, log_std) at new = self, times `tangent`.

        It is diag(1/std^2) for the mean and 2 for log_std (arXiv:1502.05477, App. C).
        """
        return Gaussian(tangent.mean * torch.exp(-2.0 * self.log_std), 2.0 * tangent.log_std)

    def score(self, actions: Tensor) -> Gaussian:
        """Gradient of log p(action) in (mean, log_std), each [..., act_dim]."""
        precision = torch.exp(-2.0 * self.log_std)
        centred = actions - self.mean
        weighted = centred * precision
        return Gaussian(weighted, weighted * centred - 1.0)

    def score_curvature(self, actions: Tensor, factor: Tensor) -> GaussianCurvature:
        """Hessian of factor log p(action) in (mean, log_std); `factor` is [...]."""
        precision = torch.exp(-2.0 * self.log_std)
        centred = actions - self.mean
        cross = -2.0 * factor[..., None] * centred * precision
        return GaussianCurvature(-factor[..., None] * precision, cross, cross * centred)

    def scaled(self, factor: Tensor) -> Gaussian:
        """Multiplies every component by `factor` [...], as weighted (co)tangents need it."""
        return Gaussian(self.mean * factor[..., None], self.log_std * factor[..., None])

    def entropy(self) -> Tensor:
        """Differential entropy in nats, summed over the action dimensions: [...]."""
        return (0.5 * (LOG_2PI + 1.0) + self.log_std).expand_as(self.mean).sum(-1)


class GaussianCurvature(NamedTuple):
    """Symmetric 2 x 2 block in (mean, log_std) for each action dimension, [..., act_dim]."""

    mean: Tensor
    cross: Tensor
    log_std: Tensor

    def times(self, tangent: Gaussian) -> Gaussian:
        return Gaussian(
            self.mean * tangent.mean + self.cross * tangent.log_std,
            self.cross * tangent.mean + self.log_std * tangent.log_std,
        )
