"""Losses of soft actor-critic: values with an entropy bonus, and the weight of that bonus.

SAC is arXiv:1812.05905, its form for discrete actions arXiv:1910.07207, and critics of which the
target takes a random subset are REDQ, arXiv:2101.05982. Critics are axis 0 of q, [C, ...].
"""

from __future__ import annotations

from torch import Tensor


def soft_value(
    q: Tensor, log_probs: Tensor, temperature: Tensor, pessimistic: bool = True
) -> Tensor:
    """Returns V = Q - alpha log pi of sampled actions, [...]; 1812.05905, Eq. 3.

    Args:
        q: [C, ...] of those actions.
        log_probs: [...] of those actions.
        temperature: alpha, [].
        pessimistic: whether Q is the least of the critics, as in SAC; else it is their mean, as in
            REDQ's Algorithm 1, line 12.
    """
    return _joined(q, pessimistic) - temperature * log_probs


def soft_value_of_choices(
    q: Tensor, log_probs: Tensor, temperature: Tensor, pessimistic: bool = True
) -> Tensor:
    """Returns V = sum pi (Q - alpha log pi) over n choices, [...]; 1910.07207, Eq. 10.

    `q` is [C, ..., n] and `log_probs` [..., n], of all choices; else as `soft_value`.
    """
    values = _joined(q, pessimistic) - temperature * log_probs
    return (log_probs.exp() * values).sum(-1)


def _joined(q: Tensor, pessimistic: bool) -> Tensor:
    return q.amin(0) if pessimistic else q.mean(0)


def td_targets(rewards: Tensor, continues: Tensor, next_values: Tensor, discount: float) -> Tensor:
    """Returns r + discount V(next), without V where `continues` is 0; 1812.05905, Eq. 2."""
    return rewards + discount * continues * next_values


def critic_loss(q: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Returns the weighted squared error of the critics, summed over them, []; Eq. 5.

    `q` is [C, ...], `targets` and `weights` [...]. Eq. 5 has a factor of one half, which is left
    out as in most code.
    """
    return ((q - targets).square() * weights).sum()


def actor_loss(values: Tensor, weights: Tensor) -> Tensor:
    """Returns minus the weighted soft values of the policy's own actions, []; Eq. 9."""
    return -(values * weights).sum()


def temperature_loss(
    log_temperature: Tensor, entropy: Tensor, target_entropy: float, weights: Tensor
) -> Tensor:
    """Returns alpha (H - H_target), weighted, []; Eq. 18. `entropy` [...] is an estimate."""
    return log_temperature.exp() * ((entropy.detach() - target_entropy) * weights).sum()


def polyak(slow: dict[str, Tensor], fast: dict[str, Tensor], rate: float) -> dict[str, Tensor]:
    """Returns parameters moved from `slow` towards `fast`, by `rate` of the way."""
    return {name: x.lerp(fast[name], rate) for name, x in slow.items()}
