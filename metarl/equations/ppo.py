"""What PPO learns from beside `losses.clipped_gain`: bootstrapped values, and the values' own loss.

As in Stable-Baselines3's `PPO.train`. Samples are the last axis, so a leading K is free.
"""

from __future__ import annotations

import torch
from torch import Tensor


def following_values(values: Tensor, final_values: Tensor, ended: Tensor) -> Tensor:
    """V of the state that each step leads to, [..., T, E].

    `values` [..., T, E] are of the states before each step, `final_values` [..., E] of those that
    episodes stopped in. Where that was a termination `returns.gae` makes no use of them.
    """
    last = final_values.unsqueeze(-2)
    later = torch.cat([values[..., 1:, :], last], dim=-2)
    return torch.where(ended, last, later)


def value_loss(values: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """E[(V - target)^2] under `weights` [..., N] that sum to one. Result [...].

    Without the factor of a half in arXiv:1707.06347, Eq. 9, and never clipped.
    """
    return (weights * (values - targets).square()).sum(-1)


def explained_variance(values: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """1 - Var[targets - values] / Var[targets]: one is perfect, zero a constant's. Result [...].

    Zero where all targets are the same: there is nothing to explain.
    """

    def variance(x: Tensor) -> Tensor:
        mean = (weights * x).sum(-1, keepdim=True)
        return (weights * (x - mean).square()).sum(-1)

    whole = variance(targets)
    share = variance(targets - values) / whole
    return torch.where(whole > 0.0, 1.0 - share, 0.0)
