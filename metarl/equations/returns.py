"""Returns, the linear baseline and advantages of episodes; time is axis -2, episodes axis -1."""

from __future__ import annotations

import torch
from torch import Tensor


def discounted_returns(rewards: Tensor, ended: Tensor, discount: float) -> Tensor:
    """sum_k discount^k r_{t+k} to the end of the episode, [..., T, E].

    `ended` [..., T, E] is True at an episode's last step; what follows it is another matter.
    """
    total = torch.zeros_like(rewards[..., 0, :])
    returns = torch.empty_like(rewards)
    for t in reversed(range(rewards.shape[-2])):
        total = rewards[..., t, :] + discount * ~ended[..., t, :] * total
        returns[..., t, :] = total
    return returns


def baseline_features(obs: Tensor) -> Tensor:
    """Features obs, obs^2, t/100, its square and cube, 1: [T, E, obs_dim] -> [T, E, 2 obs_dim + 4].

    The linear feature baseline of arXiv:1604.06778, section 5. Float64,
    observations clipped to [-10, 10] as in the published code.
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


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    ended: Tensor,
    discount: float,
    gae_lambda: float,
) -> Tensor:
    """Generalized advantage estimates, [..., T, E].

    arXiv:1506.02438, Eq. 16, with the two endings apart: termination zeroes the
    bootstrap, either ending stops the sum.
    """
    deltas = rewards + discount * next_values * ~terminated - values
    keep = discount * gae_lambda * ~ended
    advantage = torch.zeros_like(deltas[..., 0, :])
    advantages = torch.empty_like(deltas)
    for t in reversed(range(deltas.shape[-2])):
        advantage = deltas[..., t, :] + keep[..., t, :] * advantage
        advantages[..., t, :] = advantage
    return advantages


def standardize(x: Tensor, weights: Tensor, epsilon: float = 1e-8) -> Tensor:
    """(x - mean) / (std + epsilon) under `weights` [..., N] that sum to one over the last axis.

    The deviation is the population's. Where the weight is zero the result is zero.
    """
    mean = (weights * x).sum(-1, keepdim=True)
    centred = torch.where(weights > 0, x - mean, 0.0)
    std = (weights * centred.square()).sum(-1, keepdim=True).sqrt()
    return centred / (std + epsilon)
