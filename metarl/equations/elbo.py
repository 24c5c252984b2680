"""The evidence lower bound of VariBAD (arXiv:1910.08348), for Gaussian beliefs about a task.

Eq. 5 there, the bound of the trial at step t:

    ELBO_t = E[log p(trial | m)] - KL(q(m | steps before t) || q(m | steps before t - 1)),

m ~ q(m | steps before t). The first belief, of no step, is compared with N(0, I). The likelihood of
a reward is a Gaussian around the prediction, of variance 1/2: up to a constant, -log p is the
squared error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metarl.equations.gaussian import Gaussian


def belief(outputs: Tensor) -> Gaussian:
    """Returns the Gaussian whose means and log-variances are the halves of outputs [..., 2 d]."""
    mean, log_variance = outputs.chunk(2, -1)
    return Gaussian(mean, 0.5 * log_variance)


def sequential_kl(beliefs: Gaussian) -> Tensor:
    """KL of each belief [..., T, d] from the one before, the first from N(0, I), [..., T]."""
    before = (torch.cat([torch.zeros_like(x[..., :1, :]), x[..., :-1, :]], -2) for x in beliefs)
    return beliefs.kl(Gaussian(*before))


def negative_elbo(errors: Tensor, divergences: Tensor, lengths: Tensor, kl_weight: float) -> Tensor:
    """Sum of -ELBO_t over the terms of each trial, [N], up to constants.

    Args:
        errors: [N, M, D] squared errors of D predictions drawn from a trial's steps, for M terms.
        divergences: [N, M] KL of the terms.
        lengths: [N] steps of each trial: its sum over steps is that often the mean of D.
        kl_weight: weight of the KL, 1 in Eq. 5.
    """
    return (lengths[:, None] * errors.mean(-1) + kl_weight * divergences).sum(-1)
