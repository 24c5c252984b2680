"""Outer rule: the plain policy gradient through the adaptation, by Adam (MAML-VPG)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from metarl.agents.outer.adam import Adam, AdamConfig
from metarl.config.ranges import NonNegative
from metarl.config.settings import AnyAgentConfig

if TYPE_CHECKING:
    from torch import Tensor

    from metarl.agents.policy_gradient import MetaBatch
    from metarl.agents.supervised import ExampleObjective
    from metarl.types import Params


@dataclass(frozen=True)
class VpgConfig(AdamConfig):
    """Outer rule: one step of Adam along the meta-gradient of the return after adaptation.

    On examples it is a step down the loss of the query. On episodes it is theta <- theta +
    Adam(grad_theta mean_i E[log pi(theta_i') A]), arXiv:1703.03400, Eq. 4 and Algorithm 3, without
    a trust region: the gradient of the surrogate with importance ratios, which is the policy
    gradient at the parameters that collected the query.
    """

    sources = ("episodes", "examples")

    entropy: NonNegative = 0.0
    """Weight of the entropy of the adapted policies on the query."""

    def build(self) -> Vpg:
        return Vpg(self)

    def without_effect(self, agent: AnyAgentConfig) -> dict[str, str]:
        unused = self.entropy and agent.source == "examples"
        return {"agent.outer.entropy": "a prediction has no entropy"} if unused else {}


class Vpg(Adam):
    """Adam on the loss of the query, on episodes less the weighed entropy."""

    config: VpgConfig

    def gradient(
        self, meta: Params, objective: MetaBatch | ExampleObjective
    ) -> tuple[Params, Tensor]:
        if not self.config.entropy:
            return objective.gradient(meta)
        return cast("MetaBatch", objective).gradient(meta, self.config.entropy)
