"""DiCE: a loss of sampled episodes whose derivatives of every order are unbiased estimates."""

from __future__ import annotations

import torch
from torch import Tensor


def dice_loss(
    log_ratios: Tensor, advantages: Tensor, weights: Tensor, dice_lambda: float = 1.0
) -> Tensor:
    """-E[(rho(t) - rho(t-1)) A], where rho(t) = exp(sum_{k <= t} lambda^(t-k) log_ratios(k)).

    Arguments are [..., T, E]; `weights` sum to one over T and E, and are zero on padding; the
    result is [...]. `log_ratios` are log pi(a|s) less that of the policy that collected the
    episodes. So with lambda 1 rho(t) is the ratio of the probabilities of all actions up to t:

    * where the episodes were collected, its derivatives of every order are those of DiCE's box
      (arXiv:1802.05098), and the first one is that of `losses.score_function_loss`;
    * elsewhere the loss is in expectation the return of the policy that collected, whose advantages
      are A, less that of pi, and its derivatives are minus those of the return of pi.

    Taking differences of rho makes it Loaded DiCE (arXiv:1909.10549), for which any advantages
    serve. A smaller lambda forgets earlier actions, as theirs does: less variance, and bias. With 0
    it is the loss by importance ratio of ProMP. With A = discount^t times the discounted rewards to
    go it equals DiCE's sum_t box(t) discount^t r_t up to a constant. Agents pass A without
    discount^t, as they do to the score-function loss.
    """
    log_ratios = torch.where(weights > 0, log_ratios, 0.0)  # they might overflow on padding
    steps = torch.arange(log_ratios.shape[-2], device=log_ratios.device)
    lags = (steps[:, None] - steps).to(log_ratios.dtype)
    memory = torch.where(lags >= 0.0, dice_lambda ** lags.clamp(min=0.0), 0.0)
    earlier = memory @ log_ratios - log_ratios
    gain = torch.exp(earlier) * torch.expm1(log_ratios)
    return -(weights * advantages * gain).sum((-2, -1))
