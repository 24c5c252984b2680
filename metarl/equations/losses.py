"""Policy-gradient losses of one batch. Samples are the last axis, so a leading K is free."""

from __future__ import annotations

import torch
from torch import Tensor

from metarl.equations.distributions import ActionDistribution


def score_function_loss(
    policy: ActionDistribution, actions: Tensor, advantages: Tensor, weights: Tensor
) -> Tensor:
    """-E[log pi(a|s) A]: its gradient is the policy gradient (arXiv:1703.03400, Eq. 4).

    `weights` [..., N] sum to one over the valid samples. Result [...].
    """
    return -(weights * advantages * policy.log_probs(actions)).sum(-1)


def surrogate_gain(
    policy: ActionDistribution,
    behaviour: ActionDistribution,
    actions: Tensor,
    advantages: Tensor,
    weights: Tensor,
) -> Tensor:
    """E[pi(a|s) / behaviour(a|s) A], to be maximised (arXiv:1502.05477, Eq. 14). Result [...]."""
    ratio = torch.exp(policy.log_probs(actions) - behaviour.log_probs(actions))
    return (weights * ratio * advantages).sum(-1)
