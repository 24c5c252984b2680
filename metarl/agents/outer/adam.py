"""Outer rule: a step of Adam on the meta-gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metarl.agents.outer.rule import KeepsAdam, halved
from metarl.config.ranges import NonNegative, Positive
from metarl.config.settings import OuterSettings
from metarl.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from metarl.agents.policy_gradient import MetaBatch
    from metarl.agents.supervised import ExampleObjective
    from metarl.equations import adam
    from metarl.types import Metrics, Params
else:
    adam = lazy("metarl.equations.adam")


@dataclass(frozen=True)
class AdamConfig(OuterSettings):
    """Outer rule of supervised learning: Adam on the loss of the query, after adaptation."""

    fits = ("differentiable",)
    sources = ("examples",)

    lr: Positive = 1e-3
    """Step size of Adam."""
    max_grad_norm: Positive = 10.0
    """Norm that gradients are clipped to."""
    lr_half_life: NonNegative = 0.0
    """Updates after which the step size has halved; 0: it stays constant."""

    def build(self) -> Adam:
        return Adam(self)


class Adam(KeepsAdam):
    """Minimises an objective's loss by one step of Adam for each meta-batch."""

    def __init__(self, config: AdamConfig):
        self.config = config

    def step(
        self,
        meta: Params,
        state: adam.AdamState,
        objective: MetaBatch | ExampleObjective,
        rng: np.random.Generator,
    ) -> tuple[Params, adam.AdamState, Metrics]:
        config = self.config
        gradient, loss = self.gradient(meta, objective)
        gradient, norm = adam.clip_norm(gradient, config.max_grad_norm)
        if not (norm + loss).isfinite():
            return meta, state, {"skipped": 1.0}
        lr = halved(config.lr, config.lr_half_life, float(state.count))
        meta, state = adam.adam_step(meta, gradient, state, lr)
        return meta, state, {"skipped": 0.0, "gradient_norm": float(norm)}

    def gradient(
        self, meta: Params, objective: MetaBatch | ExampleObjective
    ) -> tuple[Params, Tensor]:
        """Returns the gradient that Adam descends, and the objective's loss []."""
        return objective.gradient(meta)
