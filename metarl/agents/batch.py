"""Collected episodes as gradient steps read them: flat samples with advantages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from metarl.config.settings import AdvantageConfig
from metarl.equations.distributions import ActionDistribution, each
from metarl.equations.returns import NormalEquations, discounted_returns, gae, pooled, standardize
from metarl.graphs import graphed
from metarl.networks.mlp import MlpPolicy
from metarl.parallel import in_parts, side_by_side
from metarl.types import Trajectories

Result = TypeVar("Result")
Image: TypeAlias = tuple[int, int, int]
"""Channels, height and width, as EnvSpec.image."""

CACHE_BYTES = 6 << 20
"""Size of one layer's activations that a thread works on at a time. Larger ones leave the cache,
and an elementwise pass then costs as much as the matrix product before it."""
PARTS = 16
"""Threads that can share a meta-batch: a share has at most this part of the tasks, rounded up."""


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


class Share(NamedTuple):
    """Neighbouring tasks that one thread works on."""

    index: int
    """Place among all shares."""
    rows: slice


class Division(NamedTuple):
    """The tasks of a meta-batch, divided by their number and size alone."""

    groups: list[list[Share]]
    """Worked on one after the other. The shares of a group go side by side."""
    threads: int | None
    """Most threads at a time; None: as many as torch has."""

    @classmethod
    def of(cls, tasks: int, task_bytes: int, device: torch.device, task_batch: int = 0) -> Division:
        """Divides tasks with activations of `task_bytes` in a layer into groups of `task_batch`
        (0: one group), and on a processor these into shares."""
        on_cpu, group = device.type == "cpu", task_batch or tasks
        fitting = max(1, min(round(CACHE_BYTES / task_bytes), math.ceil(tasks / PARTS)))
        size, starts = fitting if on_cpu else tasks, range(0, tasks, group)
        ends = [range(start, min(start + group, tasks)) for start in starts]
        rows = [[slice(k, min(k + size, x.stop)) for k in x[::size]] for x in ends]
        counted = iter(range(tasks))
        return cls([[Share(next(counted), x) for x in y] for y in rows], None if on_cpu else 1)

    @classmethod
    def of_batches(
        cls, batches: Sequence[Batch], policy: MlpPolicy, task_batch: int = 0
    ) -> Division:
        """Divides the tasks of batches [K, ...] that a policy is evaluated on."""
        obs, samples = batches[0].obs, max(x.obs.shape[1] for x in batches)
        task_bytes = samples * policy.network.widest * obs.element_size()
        return cls.of(len(obs), task_bytes, obs.device, task_batch)

    @property
    def grouped(self) -> bool:
        return len(self.groups) > 1

    def each(self, work: Callable[[Share], Result]) -> list[Result]:
        """Returns `work(share)` of every share, in order."""
        return [x for group in self.groups for x in side_by_side(work, group, self.threads)]


@in_parts()
def learning_batch(
    trajectories: Trajectories, config: AdvantageConfig, image: Image | None = None
) -> Batch:
    """Returns samples with advantages by the linear baseline, fit to each task's episodes. It reads
    an `image` that observations begin with as `equations.returns.pooled`.

    The baseline knows the time, and its targets are the returns up to the horizon, so the value
    beyond the last step is zero at either ending: the published, finite-horizon objective.
    """
    begun = _normal_equations(trajectories, config, image)
    return _batch(trajectories, begun, [x.solved() for x in begun], config)


def _division(trajectories: Trajectories) -> Division:
    """Divides tasks by the size of the baseline's features."""
    obs = trajectories.obs
    return Division.of(len(obs), 16 * obs[0].numel(), obs.device)


@graphed
def _normal_equations(
    trajectories: Trajectories, config: AdvantageConfig, image: Image | None
) -> list[NormalEquations]:
    """Returns the baseline's least squares, for each share of the tasks."""
    obs, mask = trajectories.obs, trajectories.mask
    ended = trajectories.terminated | trajectories.truncated

    def of_share(share: Share) -> NormalEquations:
        own = share.rows
        returns = discounted_returns(
            trajectories.rewards[own] * mask[own], ended[own], config.discount
        )
        seen = obs[own] if image is None else pooled(obs[own], image)
        return NormalEquations.of(seen, returns, mask[own], config.baseline_ridge)

    return _division(trajectories).each(of_share)


@graphed
def _batch(
    trajectories: Trajectories,
    fits: list[NormalEquations],
    solutions: list[Tensor],
    config: AdvantageConfig,
) -> Batch:
    """Returns the samples with advantages, from the baseline's weights."""
    rewards = trajectories.rewards * trajectories.mask
    weights = trajectories.mask.flatten(1).to(rewards.dtype)
    weights = weights / weights.sum(1, keepdim=True)
    ended = trajectories.terminated | trajectories.truncated

    def of_share(share: Share) -> Tensor:
        own, ends = rewards[share.rows], ended[share.rows]
        values = fits[share.index].features @ solutions[share.index]
        values = values.view_as(own).to(own.dtype)
        later = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
        found = gae(own, values, later, ends, ends, config.discount, config.gae_lambda)
        return standardize(found.flatten(1), weights[share.rows])

    return Batch(
        trajectories.obs.flatten(1, 2),
        trajectories.actions.flatten(1, 2),
        torch.cat(_division(trajectories).each(of_share)),
        weights,
        rewards.flatten(1),
    )
