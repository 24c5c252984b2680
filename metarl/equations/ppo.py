"""PPO's values for bootstrapping, and the loss of its value function.

They follow Stable-Baselines3's `PPO.train`. Leading axes, such as K, are kept.
"""

from __future__ import annotations

import torch
from torch import Tensor


def following_values(values: Tensor, final_values: Tensor, ended: Tensor) -> Tensor:
    """Values of the state after each step, [..., T, E].

    `values` [..., T, E] belong to the states before each step, `final_values` [..., E] to the
    states in which episodes stopped. `returns.gae` ignores the latter after a termination.
    """
    last = final_values.unsqueeze(-2)
    later = torch.cat([values[..., 1:, :], last], dim=-2)
    return torch.where(ended, last, later)


def value_loss(values: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """E[(V - target)^2] under `weights` [..., N] that sum to one; the result is [...].

    arXiv:1707.06347, Eq. 9. The loss has no factor 1/2, and values are not clipped.
    """
    return (weights * (values - targets).square()).sum(-1)


def clipped_value_loss(
    values: Tensor, targets: Tensor, weights: Tensor, before: Tensor, clip: float, huber: float
) -> Tensor:
    """E[max(l(V - target), l(V_clipped - target))] under `weights` [..., N] that sum to one.

    V_clipped is V moved by at most `clip` from the values `before` the update; with 0 there is no
    second term. l(e) is e^2, and 2 huber |e| - huber^2 where |e| is beyond `huber` > 0. It is as in
    OpenAI's PPO2 (baselines, `ppo2/model.py`), without the factor 1/2.
    """

    def loss(value: Tensor) -> Tensor:
        error = value - targets
        if not huber:
            return error.square()
        near = error.clamp(-huber, huber)
        return near * (2 * error - near)

    found = loss(values)
    if clip:
        found = torch.maximum(found, loss(before + (values - before).clamp(-clip, clip)))
    return (weights * found).sum(-1)


def explained_variance(values: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """1 - Var[targets - values] / Var[targets], [...]; one is perfect, a constant gets zero.

    The result is zero where all targets are equal.
    """

    def variance(x: Tensor) -> Tensor:
        mean = (weights * x).sum(-1, keepdim=True)
        return (weights * (x - mean).square()).sum(-1)

    whole = variance(targets)
    share = variance(targets - values) / whole
    return torch.where(whole > 0.0, 1.0 - share, 0.0)
