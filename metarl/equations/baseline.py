"""The linear feature baseline (arXiv:1604.06778, section 5): least squares on time and state."""

from __future__ import annotations

import torch
from torch import Tensor


def baseline_features(obs: Tensor) -> Tensor:
    """(obs, obs^2, t/100, (t/100)^2, (t/100)^3, 1): [T, E, obs_dim] -> [T, E, 2 obs_dim + 4].

    Float64, observations clipped to [-10, 10] as in the published code.
    """
    steps, episodes, _ = obs.shape
    x = obs.double().clamp(-10.0, 10.0)
    t = (torch.arange(steps, device=obs.device, dtype=torch.float64) / 100.0)[:, None, None]
    t = t.expand(steps, episodes, 1)
    return torch.cat([x, x.square(), t, t**2, t**3, torch.ones_like(t)], dim=-1)


def fitted_values(obs: Tensor, returns: Tensor, mask: Tensor, ridge: float) -> Tensor:
    """The baseline fit to one task's returns, at the same states: [T, E].

    Solves (F^T F + ridge I) w = F^T returns over the steps where `mask` holds.
    """
    features = baseline_features(obs) * mask[..., None]
    flat = features.flatten(0, 1)
    gram = flat.mT @ flat + ridge * torch.eye(flat.shape[1], device=flat.device, dtype=flat.dtype)
    weights = torch.linalg.solve(gram, flat.mT @ returns.double().flatten())
    return (features @ weights).to(returns.dtype)
