"""Outer rule: epochs on a clipped surrogate through the adaptation (arXiv:1707.06347), by Adam."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.agents.chunks import chunks
from metarl.agents.inner.differentiable import DifferentiableSgd, Round
from metarl.agents.inner.learned import LearnedSteps
from metarl.config.settings import PpoConfig
from metarl.equations.adam import AdamState, adam_step, clip_norm
from metarl.equations.losses import clipped_gain
from metarl.networks.mlp import MlpPolicy
from metarl.types import Metrics, Params


class Reading(NamedTuple):
    """What the objective is made of at some meta-parameters: means over tasks, [] each."""

    gain: Tensor
    """Clipped surrogate of the query, after adaptation."""
    exploration: Tensor
    """That of the support's actions for what came of them, clipped alike."""
    entropy: Tensor
    """Of the adapted policies on the query."""
    inner_kl: Tensor
    """KL(old || new) of the policies that collect the support."""
    kl: Tensor
    """KL(old || new) of the adapted policies."""
    clipped: Tensor
    """Share of the query with a ratio beyond the clip."""

    def loss(self, config: PpoConfig) -> Tensor:
        """inner_kl - (gain + exploration + entropy), as `config` weighs them."""
        loss = -self.gain
        if config.exploration:
            loss = loss - self.exploration
        if config.entropy:
            loss = loss - config.entropy * self.entropy
        if config.inner_kl:
            loss = loss + config.inner_kl * self.inner_kl
        return loss


class SurrogateObjective:
    """mean_i E[min(ratio A, clip(ratio) A)] on the query of task i, at theta_i' =
    adapt(theta, support_i), with what else `config` adds to it.

    The KL of the support's policies is ProMP's (arXiv:1810.06784, section 6). The exploration term
    is E-MAML's (arXiv:1803.01118, Eq. 4 and 5): where the support was collected its gradient is
    that of the support's log-probabilities times the return after adaptation. It departs from the
    paper as ProMP's code does, in the mean over samples where there is a sum over episodes, and in
    returns standardised over tasks (their centre is a baseline). For later epochs it is clipped.
    """

    def __init__(
        self,
        policy: MlpPolicy,
        rule: DifferentiableSgd | LearnedSteps,
        config: PpoConfig,
        supports: Sequence[Round],
        query: Round,
        adapted_returns: Tensor,
        fixed: Params | None = None,
    ):
        """`adapted_returns` [K]: mean returns after adaptation, standardised over tasks. `fixed`:
        what tasks start from besides the meta-parameters, where that is not learned."""
        self.policy, self.rule, self.config = policy, rule, config
        self.supports, self.query, self.adapted_returns = supports, query, adapted_returns
        self.num_tasks, self.fixed = query.obs.shape[0], fixed or {}

    def gradient(self, meta: Params) -> tuple[Params, Reading]:
        """Of the loss, downhill is better; and what it is made of."""
        leaves = {name: x.detach().requires_grad_() for name, x in meta.items()}
        total = {name: torch.zeros_like(x) for name, x in meta.items()}
        found: list[Reading] = []
        for rows in self._chunks():
            reading = self._read(leaves, rows)
            gradients = torch.autograd.grad(
                reading.loss(self.config), list(leaves.values()), materialize_grads=True
            )
            for name, x in zip(total, gradients, strict=True):
                total[name] += x
            found.append(Reading(*(x.detach() for x in reading)))
        return total, _sum(found)

    @torch.no_grad()
    def evaluate(self, meta: Params) -> Reading:
        return _sum([self._read(meta, rows) for rows in self._chunks()])

    def _chunks(self) -> Iterator[slice]:
        return chunks([x.batch for x in (*self.supports, self.query)], self.policy)

    def _read(self, meta: Params, rows: slice) -> Reading:
        """The part of some tasks in the means over all."""
        params, credit = self.policy.begin({**self.fixed, **meta}), self.adapted_returns[rows, None]
        exploration = inner_kl = self.adapted_returns.new_zeros(())
        for index, whole in enumerate(self.supports):
            support = whole.tasks(rows)
            params, here = self.rule.follow(params, support, index)
            _, actions, _, weights, _ = support.batch
            log_probs, before = here.log_probs(actions), support.behaviour.log_probs(actions)
            gain, _ = clipped_gain(log_probs, before, credit, weights, self.config.clip)
            exploration = exploration + gain.sum()
            inner_kl = inner_kl + (weights * support.behaviour.kl(here)).sum()
        query = self.query.tasks(rows)
        obs, actions, advantages, weights, _ = query.batch
        new = self.policy(params, obs)
        log_probs, before = new.log_probs(actions), query.behaviour.log_probs(actions)
        gain, clipped = clipped_gain(log_probs, before, advantages, weights, self.config.clip)
        entropy, kl = (weights * new.entropy()).sum(), (weights * query.behaviour.kl(new)).sum()
        inner_kl = inner_kl / max(1, len(self.supports))
        parts = (gain.sum(), exploration, entropy, inner_kl, kl, clipped.sum())
        return Reading(*(x / self.num_tasks for x in parts))


def _sum(readings: Sequence[Reading]) -> Reading:
    return Reading(*(torch.stack(x).sum(0) for x in zip(*readings, strict=True)))


class Ppo:
    """Minimises the objective's loss by `epochs` steps of Adam, each on all of the data."""

    def __init__(self, config: PpoConfig):
        self.config = config

    def step(
        self, meta: Params, adam: AdamState, objective: SurrogateObjective
    ) -> tuple[Params, AdamState, Metrics]:
        """New meta-parameters and moments; the old ones, and `skipped` 1, where a loss, gradient
        or KL on the way is not finite."""
        config, params, moments = self.config, meta, adam
        found: list[tuple[Reading, Tensor]] = []
        for _ in range(config.epochs):
            gradient, reading = objective.gradient(params)
            gradient, norm = clip_norm(gradient, config.max_grad_norm)
            found.append((reading, norm))
            if not _finite(*reading, norm):
                return meta, adam, _metrics(found[0], None)
            params, moments = adam_step(params, gradient, moments, config.lr)
        after = objective.evaluate(params)
        if not _finite(*after):
            return meta, adam, _metrics(found[0], None)
        return params, moments, _metrics(found[0], after)


def _finite(*values: Tensor) -> bool:
    return bool(torch.stack(values).isfinite().all())


def _metrics(first: tuple[Reading, Tensor], after: Reading | None) -> Metrics:
    """Of an update that began at `first` and came to `after`, or to nothing."""
    before, norm = first
    kept = before if after is None else after
    return {
        "skipped": float(after is None),
        "surrogate/before": float(before.gain),
        "surrogate/after": float(kept.gain),
        "kl": float(kept.kl),
        "inner_kl": float(kept.inner_kl),
        "clip_fraction": float(kept.clipped),
        "gradient_norm": float(norm),
    }
