"""Facts about a meta-batch that say why nothing, or nothing finite, could be learned from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metarl.types import Trajectories


def sameness(rounds: Sequence[Trajectories]) -> str:
    """Returns why no action of these episodes looks better than another; empty if some may.

    That is so where every reward is the same number and all episodes of a task are equally long,
    and where all episodes of a task earned the same.
    """
    if not any(bool(_differ(x)) for x in rounds):
        rewards = torch.cat([x.rewards[x.mask] for x in rounds])
        first = float(rewards[0]) if len(rewards) else 0.0
        if bool((rewards == first).all()):
            return f"every reward is {first:g}"
        return "all episodes of a task earned the same"
    return ""


def _differ(episodes: Trajectories) -> Tensor:
    """Returns whether two episodes of one task earned different returns, or a task's rewards vary
    where there is one episode, []."""
    rewards = torch.where(episodes.mask, episodes.rewards, 0.0)
    if rewards.shape[2] > 1:
        found = rewards.double().sum(1)
        return (found != found[:, :1]).any()
    return (rewards != rewards[:, :1]).any()


def largest(named: Mapping[str, Sequence[Tensor]]) -> dict[str, float]:
    """Returns the largest magnitude of each quantity; a NaN may be missed."""
    return {
        name: max((_magnitude(x) for x in parts if x.numel()), default=0.0)
        for name, parts in named.items()
    }


def _magnitude(x: Tensor) -> float:
    low, high = x.aminmax()  # in one pass, without a copy
    return max(abs(float(low)), abs(float(high)))
