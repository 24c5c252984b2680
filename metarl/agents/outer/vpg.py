"""Outer rule: the plain policy gradient through the adaptation, by Adam (MAML-VPG)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metarl.agents.outer.rule import KeepsAdam
from metarl.config.ranges import Positive
from metarl.config.settings import OuterSettings
from metarl.lazy import lazy

if TYPE_CHECKING:
    import numpy as np

    from metarl.agents.outer.adam import MetaGradient
    from metarl.equations import adam
    from metarl.types import Metrics, Params
else:
    adam = lazy("metarl.equations.adam")


@dataclass(frozen=True)
class VpgConfig(OuterSettings):
    """Outer rule: one step of Adam along the meta-gradient of the return after adaptation.

    On examples it is a step down the loss of the query.
    """

    fits = ("differentiable",)

    lr: Positive = 1e-3
    max_grad_norm: Positive = 10.0

    def build(self) -> Vpg:
        return Vpg(self)


class Vpg(KeepsAdam):
    """theta <- theta + Adam(grad_theta mean_i E[log pi(theta_i') A]), arXiv:1703.03400, Eq. 4 and
    Algorithm 3, without a trust region.

    The gradient is that of the surrogate with importance ratios, which is the policy gradient at
    the parameters that collected the query.
    """

    def __init__(self, config: VpgConfig):
        self.config = config

    def step(
        self,
        meta: Params,
        state: adam.AdamState,
        objective: MetaGradient,
        rng: np.random.Generator,
    ) -> tuple[Params, adam.AdamState, Metrics]:
        gradient, loss = objective.gradient(meta)
        gradient, norm = adam.clip_norm(gradient, self.config.max_grad_norm)
        if not (norm + loss).isfinite():
            return meta, state, {"skipped": 1.0}
        after, state = adam.adam_step(meta, gradient, state, self.config.lr)
        return after, state, {"skipped": 0.0, "gradient_norm": float(norm)}
