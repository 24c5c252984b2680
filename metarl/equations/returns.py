"""Returns and advantages of episodes; time is axis -2, episodes axis -1: [..., T, E]."""

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
