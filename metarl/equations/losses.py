"""Policy-gradient losses of one batch. The last axis is samples; leading axes are kept."""

from __future__ import annotations

import torch
from torch import Tensor

from metarl.equations.distributions import ActionDistribution


def score_function_loss(
    policy: ActionDistribution, actions: Tensor, advantages: Tensor, weights: Tensor
) -> Tensor:
    """-E[log pi(a|s) A], [...], whose gradient is the policy gradient (arXiv:1703.03400, Eq. 4).

    `weights` [..., N] sum to one over the valid samples.
    """
    return -(weights * advantages * policy.log_probs(actions)).sum(-1)


def clipped_gain(
    log_probs: Tensor, behaviour: Tensor, advantages: Tensor, weights: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    """E[min(ratio A, clip(ratio, 1 - clip, 1 + clip) A)], to be maximised, and the clipped share.

    arXiv:1707.06347, Eq. 7; ratio = exp(log_probs - behaviour) of the actions taken, [..., N].
    Both results are [...]. A sample is clipped if its ratio is outside, whatever A's sign.
    """
    ratio = torch.exp(log_probs - behaviour)
    clipped = ratio.clamp(1.0 - clip, 1.0 + clip)
    gain = (weights * torch.minimum(ratio * advantages, clipped * advantages)).sum(-1)
    return gain, (weights * (ratio != clipped)).sum(-1)
