"""DiCE: a loss of sampled episodes whose derivatives of every order are unbiased estimates."""

from __future__ import annotations

import torch
from torch import Tensor


def magic_box(log_probs: Tensor) -> Tensor:
    """Returns ones whose derivative is the box times that of `log_probs` (arXiv:1802.05098)."""
    return torch.exp(log_probs - log_probs.detach())


def dice_loss(log_probs: Tensor, advantages: Tensor, weights: Tensor) -> Tensor:
    """-E[(box(t) - box(t-1)) A], where box(t) is `magic_box` of the log_probs summed up to step t.

    Arguments are [..., T, E]; `weights` sum to one over T and E. The value [...] is zero. The
    first derivative equals that of `losses.score_function_loss`. This is Loaded DiCE
    (arXiv:1909.10549) with lambda 1, which takes any advantages. With A = discount^t times the
    discounted rewards to go it equals DiCE's sum_t box(t) discount^t r_t (arXiv:1802.05098) up to
    a constant. Agents pass A without discount^t, as they do to the score-function loss.
    Padding comes after an episode's end, so it enters no valid step's box.
    """
    until = log_probs.cumsum(-2)
    gain = magic_box(until) - magic_box(until - log_probs)
    return -(weights * advantages * gain).sum((-2, -1))
