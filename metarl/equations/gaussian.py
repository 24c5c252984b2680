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

    def fisher(self, tangent: Gaussian, factor: Tensor) -> Gaussian:
        """Hessian of factor KL(self || new) in new = (mean, log_std) at new = self, times tangent:
        factor / std^2 for the mean, 2 factor for log_std (arXiv:1502.05477, App. C)."""
        by_mean, factor = tangent.mean * torch.exp(-2.0 * self.log_std), factor[..., None]
        return Gaussian(by_mean * factor, 2.0 * tangent.log_std * factor)

    def score(self, actions: Tensor, factor: Tensor) -> Gaussian:
        """Gradient of factor log p(action) in (mean, log_std); `factor` is [...]."""
        centred, factor = actions - self.mean, factor[..., None]
        weighted = centred * torch.exp(-2.0 * self.log_std)
        return Gaussian(weighted * factor, (weighted * centred - 1.0) * factor)

    def score_curvature(self, actions: Tensor, factor: Tensor) -> GaussianCurvature:
        """Hessian of factor log p(action) in (mean, log_std); `factor` is [...]."""
        precision = torch.exp(-2.0 * self.log_std)
        centred = actions - self.mean
        cross = -2.0 * factor[..., None] * centred * precision
        return GaussianCurvature(-factor[..., None] * precision, cross, cross * centred)

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
