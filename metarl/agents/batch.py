"""Collected episodes as gradient steps read them: flat samples with advantages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from metarl.config.settings import AdvantageConfig
from metarl.equations.distributions import ActionDistribution, each
from metarl.equations.returns import discounted_returns, fitted_values, gae, standardize
from metarl.networks.mlp import MlpPolicy
from metarl.types import Trajectories

CACHE_BYTES = 6 << 20
"""Size of one layer's activations that is worked on at a time. Larger ones leave the processor's
cache, and an elementwise pass then costs as much as the matrix product before it."""


class Batch(NamedTuple):
    """The samples of K tasks, N = T E for each; padding has weight zero."""

    obs: Tensor  # [K, N, obs_dim]
    actions: Tensor  # [K, N, act_dim]
    advantages: Tensor  # [K, N], standardised within each task
    weights: Tensor  # [K, N], each task's sum to one
    rewards: Tensor  # [K, N], zero on padding

    def tasks(self, rows: slice) -> Batch:
        """Returns the batch of some of the tasks."""
        return Batch(*(x[rows] for x in self))

    def thinned(self, fraction: float, rng: np.random.Generator) -> Batch:
        """Returns a random `fraction` of each task's samples, valid ones first, [K, n]."""
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


class CollectedBatch(NamedTuple):
    """A batch, the policy that collected it, and the order of its samples."""

    batch: Batch
    behaviour: ActionDistribution
    """Distribution that each action was sampled from, [K, N, ...]."""
    num_steps: int
    """T of N = T E: time goes before episodes."""

    @classmethod
    def of(cls, batch: Batch, trajectories: Trajectories) -> CollectedBatch:
        shape = trajectories.mask.shape

        def flat(x: Tensor) -> Tensor:
            return x.expand(*shape, x.shape[-1]).flatten(1, 2)

        return cls(batch, each(flat, trajectories.behaviour), shape[1])

    @property
    def obs(self) -> Tensor:
        return self.batch.obs

    def tasks(self, rows: slice) -> CollectedBatch:
        """Returns the batch of some of the tasks."""
        behaviour = each(lambda x: x[rows], self.behaviour)
        return CollectedBatch(self.batch.tasks(rows), behaviour, self.num_steps)


def chunks(batches: Sequence[Batch], policy: MlpPolicy) -> Iterator[slice]:
    """Yields neighbouring tasks of batches [K, ...] to work on together; all of them on a GPU."""
    num_tasks, samples = batches[0].obs.shape[0], max(x.obs.shape[1] for x in batches)
    row_bytes = samples * max(policy.sizes) * batches[0].obs.element_size()
    on_cpu = batches[0].obs.device.type == "cpu"
    size = max(1, round(CACHE_BYTES / row_bytes)) if on_cpu else num_tasks
    for start in range(0, num_tasks, size):
        yield slice(start, min(start + size, num_tasks))


def learning_batch(trajectories: Trajectories, config: AdvantageConfig) -> Batch:
    """Returns samples with advantages by the linear baseline, fit to each task's episodes.

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
