"""Adam as a function of parameters, gradient and state; clipping of gradients by their norm."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class AdamState(NamedTuple):
    """State of Adam between steps; Adam is elementwise, so parameters may have a leading K."""

    count: Tensor  # [] float64: steps so far; [K] where tasks have taken different numbers of them
    mean: dict[str, Tensor]  # first moment of the gradients, in the parameters' shapes
    square: dict[str, Tensor]  # second moment of the gradients, in the parameters' shapes


def adam_start(params: dict[str, Tensor]) -> AdamState:
    """Returns Adam's state before the first step: zero."""
    device = next(iter(params.values())).device
    zeros = {name: torch.zeros_like(x) for name, x in params.items()}
    return AdamState(torch.zeros((), dtype=torch.float64, device=device), zeros, dict(zeros))


def adam_step(
    params: dict[str, Tensor],
    gradient: dict[str, Tensor],
    adam_state: AdamState,
    lr: float | Tensor,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> tuple[dict[str, Tensor], AdamState]:
    """Returns parameters and state after one descent step (arXiv:1412.6980, Algorithm 1)."""
    count = adam_state.count + 1.0
    mean = {n: torch.lerp(m, gradient[n], 1.0 - betas[0]) for n, m in adam_state.mean.items()}
    square = {
        n: (betas[1] * v).addcmul(gradient[n], gradient[n], value=1.0 - betas[1])
        for n, v in adam_state.square.items()
    }
    step = lr / (1.0 - betas[0] ** count)
    scale = (1.0 - betas[1] ** count).sqrt()
    after = {
        n: x - _along(step, x) * (mean[n] / (square[n].sqrt() / _along(scale, x) + eps))
        for n, x in params.items()
    }
    return after, AdamState(count, mean, square)


def _along(factor: Tensor, x: Tensor) -> Tensor:
    """Returns a factor [] as it is, and one per task [K] in the shape to multiply x [K, ...]."""
    return factor.to(x.dtype).view(-1, *[1] * (x.dim() - 1)) if factor.dim() else factor


def clip_norm(
    gradient: dict[str, Tensor], max_norm: float, tasks: bool = False
) -> tuple[dict[str, Tensor], Tensor]:
    """Returns `gradient` scaled to a Euclidean norm of at most `max_norm`, and its norm before, [].

    With `tasks` each task's gradient [K, ...] has its own norm, [K]. The factor is
    min(1, max_norm / (norm + 1e-6)), which equals `torch.nn.utils.clip_grad_norm_`.
    """
    squares = [x.square().flatten(int(tasks)).sum(-1) for x in gradient.values()]
    norm = torch.stack(squares).sum(0).sqrt()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    clipped = {n: factor.view(-1, *[1] * (x.dim() - 1)) * x for n, x in gradient.items()}
    return {n: x.view_as(gradient[n]) for n, x in clipped.items()}, norm


def adam_state_dict(adam_state: AdamState, prefix: str) -> dict[str, Tensor]:
    """Returns the state as named tensors: PREFIXcount, PREFIXmean.NAME, PREFIXsquare.NAME."""
    mean = {f"{prefix}mean.{name}": x for name, x in adam_state.mean.items()}
    square = {f"{prefix}square.{name}": x for name, x in adam_state.square.items()}
    return {f"{prefix}count": adam_state.count, **mean, **square}


def adam_loaded(adam_state: AdamState, saved: dict[str, Tensor], prefix: str) -> AdamState:
    """Returns the state in `saved` (see `adam_state_dict`) for the parameters in `adam_state`."""
    return AdamState(
        saved[f"{prefix}count"],
        {name: saved[f"{prefix}mean.{name}"] for name in adam_state.mean},
        {name: saved[f"{prefix}square.{name}"] for name in adam_state.square},
    )
