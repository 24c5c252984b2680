"""From collected episodes to what a gradient step reads: flat samples with advantages."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from metarl.config.settings import AdvantageConfig
from metarl.equations.returns import discounted_returns, fitted_values, gae, standardize
from metarl.types import Trajectories


class Batch(NamedTuple):
    """The samples of K tasks, N = T E for each; padding has weight zero."""

    obs: Tensor  # [K, N, obs_dim]
    actions: Tensor  # [K, N, act_dim]
    advantages: Tensor  # [K, N], standardised within each task
    weights: Tensor  # [K, N], each task's sum to one
    rewards: Tensor  # [K, N], zero on padding

    def tasks(self, rows: slice) -> Batch:
        """The batch of some of the tasks."""
        return Batch(*(x[rows] for x in self))

    def thinned(self, fraction: float, rng: np.random.Generator) -> Batch:
        """A random `fraction` of N samples for each task, valid ones first; weights sum to one."""
        tasks, samples = self.weights.shape
        kept = max(1, round(fraction * samples))
        if kept == samples:
            return self
        lots = torch.from_numpy(rng.random((tasks, samples), np.float32)).to(self.obs.device)
        lots = lots + (self.weights == 0)  # padding is drawn when nothing else is left
        index = lots.topk(kept, dim=1, largest=False, sorted=False).indices.sort(dim=1).values
        rows = torch.arange(tasks, device=index.device)[:, None]
        part = Batch(*(x[rows, index] for x in self))
        return part._replace(weights=part.weights / part.weights.sum(1, keepdim=True))


def learning_batch(trajectories: Trajectories, config: AdvantageConfig) -> Batch:
    """Advantages by the linear baseline, fit to each task's own episodes.

    The baseline knows the time, and its targets are the returns up to the horizon, so the value
    beyond the last step is zero at either ending: the published, finite-horizon objective.
    """

    ended = trajectories.terminated | trajectories.truncated
    rewards = trajectories.rewards * trajectories.mask
    returns = discounted_returns(rewards, ended, config.discount)
    # A few tasks at a time: the baseline's float64 features would not fit the cache.
    fit = vmap(partial(fitted_values, ridge=config.baseline_ridge), chunk_size=4)
    values = fit(trajectories.obs, returns, trajectories.mask)
    next_values = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    advantages = gae(
        rewards, values, next_values, ended, ended, config.discount, config.gae_lambda
    ).flatten(1)
    weights = trajectories.mask.flatten(1).to(advantages.dtype)
    weights = weights / weights.sum(1, keepdim=True)
    return Batch(
        trajectories.obs.flatten(1, 2),
        trajectories.actions.flatten(1, 2),
        standardize(advantages, weights),
        weights,
        rewards.flatten(1),
    )
