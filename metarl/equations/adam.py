"""Adam as a function of its state, and the clipping of gradients before it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class AdamState(NamedTuple):
    """What Adam remembers between steps. Every entry stands alone, so a leading K is free."""

    count: Tensor  # [] float64: steps so far
    mean: dict[str, Tensor]  # of gradients, as the parameters
    square: dict[str, Tensor]  # of gradients squared


def adam_start(params: dict[str, Tensor]) -> AdamState:
    """The state before the first step."""
    device = next(iter(params.values())).device
    zeros = {name: torch.zeros_like(x) for name, x in params.items()}
    return AdamState(torch.zeros((), dtype=torch.float64, device=device), zeros, dict(zeros))


def adam_step(
    params: dict[str, Tensor],
    gradient: dict[str, Tensor],
    state: AdamState,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> tuple[dict[str, Tensor], AdamState]:
    """One step downhill, arXiv:1412.6980, Algorithm 1: new parameters and the new state."""
    count = state.count + 1.0
    mean = {n: torch.lerp(m, gradient[n], 1.0 - betas[0]) for n, m in state.mean.items()}
    square = {
        n: (betas[1] * v).addcmul(gradient[n], gradient[n], value=1.0 - betas[1])
        for n, v in state.square.items()
    }
    step = lr / (1.0 - betas[0] ** count)
    scale = (1.0 - betas[1] ** count).sqrt()
    after = {n: x - step * (mean[n] / (square[n].sqrt() / scale + eps)) for n, x in params.items()}
    return after, AdamState(count, mean, square)


def clip_norm(
    gradient: dict[str, Tensor], most: float, tasks: bool = False
) -> tuple[dict[str, Tensor], Tensor]:
    """`gradient` at a Euclidean norm of at most `most`, and the norm that it had, [].

    With `tasks` each task's gradient [K, ...] has its own norm, [K]. As
    `torch.nn.utils.clip_grad_norm_`: the factor is most / (norm + 1e-6), where that is below one.
    """
    squares = [x.square().flatten(int(tasks)).sum(-1) for x in gradient.values()]
    norm = torch.stack(squares).sum(0).sqrt()
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    clipped = {n: factor.view(-1, *[1] * (x.dim() - 1)) * x for n, x in gradient.items()}
    return {n: x.view_as(gradient[n]) for n, x in clipped.items()}, norm


def adam_state_dict(state: AdamState, prefix: str) -> dict[str, Tensor]:
    """The state as named tensors: PREFIXcount, PREFIXmean.NAME, PREFIXsquare.NAME."""
    mean = {f"{prefix}mean.{name}": x for name, x in state.mean.items()}
    square = {f"{prefix}square.{name}": x for name, x in state.square.items()}
    return {f"{prefix}count": state.count, **mean, **square}


def adam_loaded(state: AdamState, saved: dict[str, Tensor], prefix: str) -> AdamState:
    """What `adam_state_dict` saved, of the parameters that `state` knows; `saved` may hold more."""
    return AdamState(
        saved[f"{prefix}count"],
        {name: saved[f"{prefix}mean.{name}"] for name in state.mean},
        {name: saved[f"{prefix}square.{name}"] for name in state.square},
    )
