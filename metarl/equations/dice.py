"""DiCE: losses of sampled episodes whose derivatives of every order are unbiased estimates."""

from __future__ import annotations

import torch
from torch import Tensor


def magic_box(log_probs: Tensor) -> Tensor:
    """One, whose derivative is itself times that of `log_probs` (arXiv:1802.05098, MagicBox)."""
    return torch.exp(log_probs - log_probs.detach())


def dice_loss(log_probs: Tensor, advantages: Tensor, weights: Tensor) -> Tensor:
    """-E[(box(t) - box(t-1)) A], box(t) that of the episode's log-probabilities up to step t.

    Everything is [..., T, E], and `weights` sum to one over both; the value [...] is zero, the
    first derivative that of `losses.score_function_loss`. This is Loaded DiCE (arXiv:1909.10549)
    with lambda 1, which takes any advantages. With A = discount^t times the discounted rewards to
    go, summation by parts makes it DiCE's own sum_t box(t) discount^t r_t (arXiv:1802.05098), but
    for a constant. Agents give A without discount^t, as to the score-function loss.

    Padding follows an episode's end, so no valid step's box holds any of it.
    """
    until = log_probs.cumsum(-2)
    gain = magic_box(until) - magic_box(until - log_probs)
    return -(weights * advantages * gain).sum((-2, -1))
