"""Gaussian policies over a box of actions, in units of the box."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from metarl.equations.gaussian import Gaussian, GaussianCurvature

UNBOUNDED = 3e38
"""Bounds from here on mean that there is none: some environments give float32's largest number."""


class BoxGaussian(Gaussian):
    """Independent normal distributions of u = (action - middle) / half, one for each dimension.

    Mean and deviation are those of u, and so are log-probabilities, divergences and entropy. The
    density of the action itself is smaller by the constant factor prod(half), which cancels in
    ratios and gradients. `box_gaussian` sets the two constants.
    """

    __slots__ = ()
    middle: ClassVar[tuple[float, ...]] = ()
    half: ClassVar[tuple[float, ...]] = ()
    """Half of the box's width. Both belong to the class, because `each` and torch.func rebuild a
    distribution from its class and its tensors alone."""

    @classmethod
    def in_box(cls, units: Tensor) -> Tensor:
        """Returns middle + half u, for u [..., act_dim]."""
        return _constant(cls.middle, units) + _constant(cls.half, units) * units

    @classmethod
    def in_units(cls, actions: Tensor) -> Tensor:
        """Returns u = (action - middle) / half, for actions [..., act_dim]."""
        return (actions - _constant(cls.middle, actions)) / _constant(cls.half, actions)

    def sample(self, noise: Tensor) -> Tensor:
        """Returns actions [..., act_dim] from standard normal `noise` of that shape."""
        return self.in_box(super().sample(noise))

    def log_probs(self, actions: Tensor) -> Tensor:
        """log p(u), summed over the action dimensions: [...]."""
        return super().log_probs(self.in_units(actions))

    def score(self, actions: Tensor, factor: Tensor) -> Gaussian:
        """Gradient of factor log p(u) in (mean, log_std); `factor` is [...]."""
        return super().score(self.in_units(actions), factor)

    def score_curvature(self, actions: Tensor, factor: Tensor) -> GaussianCurvature:
        """Hessian of factor log p(u) in (mean, log_std); `factor` is [...]."""
        return super().score_curvature(self.in_units(actions), factor)


def _constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    return _tensor(values, like.dtype, like.device)


@cache  # a copy to a GPU waits for it
def _tensor(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)


def box_gaussian(low: Sequence[float], high: Sequence[float]) -> type[BoxGaussian]:
    """Returns the class for a box with those bounds; equal boxes share it.

    A dimension without one of its bounds, or without width, keeps its own units: middle 0 or its
    only value, half width 1.
    """
    return _box_gaussian(*middles_and_halves(low, high))


def middles_and_halves(
    low: Sequence[float], high: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the middle and half the width of each dimension; see `box_gaussian`."""
    middle, half = zip(*map(_middle_and_half, low, high), strict=True)
    return middle, half


def is_bounded(low: float, high: float) -> bool:
    """Returns whether a dimension has both bounds."""
    return -UNBOUNDED < low <= high < UNBOUNDED


def _middle_and_half(low: float, high: float) -> tuple[float, float]:
    if not is_bounded(low, high):
        return 0.0, 1.0
    return (low + high) / 2.0, (high - low) / 2.0 or 1.0


@cache
def _box_gaussian(middle: tuple[float, ...], half: tuple[float, ...]) -> type[BoxGaussian]:
    return type("BoxGaussian", (BoxGaussian,), {"__slots__": (), "middle": middle, "half": half})
