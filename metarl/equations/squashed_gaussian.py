"""Gaussian policies squashed into a box by tanh, with log-densities that do not overflow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.equations.box_gaussian import BoxGaussian, middles_and_halves
from metarl.equations.gaussian import Gaussian, GaussianCurvature

INSIDE = 1.0 - 1e-6
"""Largest magnitude of tanh u whose u is computed from an action in float32."""
NODES = 32
"""Nodes of the quadrature of the entropy."""


def log_slope(u: Tensor) -> Tensor:
    """Returns log(d tanh u / d u) = log(1 - tanh^2 u), elementwise.

    It is 2 (log 2 - u - softplus(-2 u)), which is finite for every finite u; 1 - tanh^2 u is
    exactly zero in float32 from |u| = 9 on.
    """
    return 2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u))


class SquashedGaussian(BoxGaussian):
    """Actions middle + half tanh(u) with independent normal u (arXiv:1812.05905, App. C).

    Mean and deviation are those of u. Log-probabilities and the entropy are those of the action in
    units of the box, tanh u; the density of the action itself is smaller by the constant factor
    prod(half). Divergences are those of u, since tanh is a bijection.
    """

    __slots__ = ()

    def sample(self, noise: Tensor) -> Tensor:
        """Returns actions [..., act_dim] from standard normal `noise` of that shape."""
        return self.in_box(Gaussian.sample(self, noise).tanh())

    def units_and_log_probs(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Returns sampled actions in units of the box [..., act_dim] and their log p, [...].

        log p = log N(u) - sum log(1 - tanh^2 u), Eq. 26 of App. C. It needs no inverse of tanh.
        """
        u = Gaussian.sample(self, noise)
        return u.tanh(), Gaussian.log_probs(self, u) - log_slope(u).sum(-1)

    @classmethod
    def unsquashed(cls, actions: Tensor) -> Tensor:
        """Returns u for actions [..., act_dim]; at the box's faces the u of nearly there."""
        return cls.in_units(actions).clamp(-INSIDE, INSIDE).atanh()

    def log_probs(self, actions: Tensor) -> Tensor:
        """log p(tanh u), summed over the action dimensions: [...]."""
        u = self.unsquashed(actions)
        return Gaussian.log_probs(self, u) - log_slope(u).sum(-1)

    def score(self, actions: Tensor, factor: Tensor) -> Gaussian:
        """Gradient of factor log p(tanh u) in (mean, log_std); `factor` is [...]."""
        return Gaussian.score(self, self.unsquashed(actions), factor)

    def score_curvature(self, actions: Tensor, factor: Tensor) -> GaussianCurvature:
        """Hessian of factor log p(tanh u) in (mean, log_std); `factor` is [...]."""
        return Gaussian.score_curvature(self, self.unsquashed(actions), factor)

    def entropy(self) -> Tensor:
        """Differential entropy of tanh u in nats, summed over the action dimensions: [...].

        H(u) + E log(1 - tanh^2 u); the expectation is by Gauss-Hermite quadrature.
        """
        nodes, weights = (x.to(self.mean) for x in _quadrature())
        u = self.mean[..., None] + self.log_std.exp()[..., None] * nodes
        return Gaussian.entropy(self) + (log_slope(u) * weights).sum(-1).sum(-1)


@cache
def _quadrature() -> tuple[Tensor, Tensor]:
    """Returns nodes and weights of an expectation over the standard normal distribution.

    Nodes are the eigenvalues of the Hermite polynomials' Jacobi matrix, and weights the squares of
    the first entries of its eigenvectors (Golub and Welsch 1969).
    """
    beside = torch.arange(1.0, NODES, dtype=torch.float64).sqrt()
    nodes, vectors = torch.linalg.eigh(beside.diag(1) + beside.diag(-1))
    return nodes, vectors[0].square()


def squashed_gaussian(low: Sequence[float], high: Sequence[float]) -> type[SquashedGaussian]:
    """Returns the class for a box with those bounds, all finite; equal boxes share it."""
    return _squashed(*middles_and_halves(low, high))


@cache
def _squashed(middle: tuple[float, ...], half: tuple[float, ...]) -> type[SquashedGaussian]:
    slots = {"__slots__": (), "middle": middle, "half": half}
    return type("SquashedGaussian", (SquashedGaussian,), slots)
