"""Outer rule: epochs on a clipped surrogate through the adaptation (arXiv:1707.06347), by Adam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from metarl.agents.outer.rule import KeepsAdam, halved
from metarl.config.ranges import Count, NonNegative, Positive
from metarl.config.settings import AnyAgentConfig, OuterSettings
from metarl.graphs import graphed
from metarl.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from metarl.agents.derivatives.autograd import SurrogateParts
    from metarl.agents.policy_gradient import MetaBatch
    from metarl.equations import adam
    from metarl.types import Metrics, Params
else:
    torch, adam = lazy("torch"), lazy("metarl.equations.adam")


@dataclass(frozen=True)
class PpoConfig(OuterSettings):
    """Outer rule: several epochs on a clipped surrogate through the adaptation, by Adam."""

    fits = ("differentiable",)
    sources = ("episodes",)

    lr: Positive = 3e-3
    """Step size of Adam."""
    epochs: Count = 10
    """Steps of Adam on a meta-batch."""
    clip: Positive = 0.2
    """Bound of |r - 1| for the ratio r of new to old probabilities."""
    inner_kl: NonNegative = 0.0
    """Weight of the KL from the policies that collected the supports to the new ones (ProMP)."""
    inner_ratio: bool = False
    """Adapt by importance-weighted inner steps, which stay correct in later epochs (ProMP)."""
    exploration: bool = False
    """Credit the first support's actions by the rewards after adaptation (E-MAML)."""
    entropy: NonNegative = 0.0
    """Weight of the entropy of the adapted policies on the query."""
    max_grad_norm: Positive = 10.0
    """Norm that gradients are clipped to."""
    target_kl: NonNegative = 0.0
    """KL that ends an update early: no further epoch once the mean KL from the policies that
    collected the query, or the supports, is above it; 0: all epochs."""
    lr_half_life: NonNegative = 0.0
    """Updates after which the step size has halved; 0: it stays constant. An update that
    `target_kl` ended early counts in part."""

    def build(self) -> Ppo:
        return Ppo(self)

    def importance_weighted(self) -> bool:
        return self.inner_ratio

    def without_effect(self, agent: AnyAgentConfig) -> dict[str, str]:
        if agent.inner.training_steps:
            return {}
        ways = {
            "agent.outer.inner_kl": self.inner_kl > 0,
            "agent.outer.inner_ratio": self.inner_ratio,
            "agent.outer.exploration": self.exploration,
        }
        return {key: "it does not adapt in training" for key, asked in ways.items() if asked}


class Epoch(NamedTuple):
    """Parameters after an epoch, and the objective and the gradient's norm before it."""

    params: Params
    adam_state: adam.AdamState
    parts: SurrogateParts
    norm: Tensor


@dataclass(frozen=True)
class Ppo(KeepsAdam):
    """Minimises the clipped surrogate's loss by `epochs` steps of Adam, each on all of the data.

    The loss is inner_kl KL - (gain + exploration + entropy H), as the settings weigh them. The KL
    of the support's policies is ProMP's (arXiv:1810.06784, section 6), the exploration term
    E-MAML's (arXiv:1803.01118, Eq. 4 and 5).
    """

    config: PpoConfig

    def step(
        self, meta: Params, state: adam.AdamState, objective: MetaBatch, rng: np.random.Generator
    ) -> tuple[Params, adam.AdamState, Metrics]:
        config, params, adam_state = self.config, meta, state
        found: list[tuple[SurrogateParts, Tensor]] = []
        updates = float(state.count) / config.epochs if config.lr_half_life else 0.0
        lr = state.count.new_full((), halved(config.lr, config.lr_half_life, updates))
        for _ in range(config.epochs):
            epoch = self.epoch(objective, params, adam_state, lr)
            parts, norm = _looked_at(epoch.parts, epoch.norm)
            if found and self.too_far(parts):
                break
            found.append((parts, norm))
            if not _finite(*parts, norm):
                return meta, state, _metrics(found[0], None)
            params, adam_state = epoch.params, epoch.adam_state
        after, _ = _looked_at(self.evaluate(objective, params), lr)
        if not _finite(*after):
            return meta, state, _metrics(found[0], None)
        epochs = {"epochs": float(len(found))} if config.target_kl else {}
        return params, adam_state, {**_metrics(found[0], after), **epochs}

    @graphed
    def epoch(
        self, objective: MetaBatch, params: Params, adam_state: adam.AdamState, lr: Tensor
    ) -> Epoch:
        """Returns a step of Adam on all of the data, and the objective before it."""
        surrogate = objective.surrogate(self.config.clip)
        gradient, parts = surrogate.gradient(params, self.loss)
        gradient, norm = adam.clip_norm(gradient, self.config.max_grad_norm)
        return Epoch(*adam.adam_step(params, gradient, adam_state, lr), parts, norm)

    @graphed
    def evaluate(self, objective: MetaBatch, params: Params) -> SurrogateParts:
        """Returns the parts of the objective at `params`."""
        return objective.surrogate(self.config.clip).evaluate(params)

    def too_far(self, parts: SurrogateParts) -> bool:
        """Returns whether a policy has moved beyond `target_kl`."""
        target = self.config.target_kl
        return target > 0.0 and bool(max(parts.kl, parts.inner_kl) > target)

    def loss(self, parts: SurrogateParts) -> Tensor:
        """Returns the loss that those parts of the objective make, []."""
        config, loss = self.config, -parts.gain
        if config.exploration:
            loss = loss - parts.exploration
        if config.entropy:
            loss = loss - config.entropy * parts.entropy
        if config.inner_kl:
            loss = loss + config.inner_kl * parts.inner_kl
        return loss


def _looked_at(parts: SurrogateParts, norm: Tensor) -> tuple[SurrogateParts, Tensor]:
    """Returns copies on the processor, for which a GPU is awaited once."""
    *copies, last = torch.stack([x.double() for x in (*parts, norm)]).cpu()
    return type(parts)(*copies), last


def _finite(*values: Tensor) -> bool:
    return bool(torch.stack(values).isfinite().all())


def _metrics(first: tuple[SurrogateParts, Tensor], after: SurrogateParts | None) -> Metrics:
    """Returns the metrics of an update that began at `first` and came to `after`, or failed."""
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
