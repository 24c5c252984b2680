"""Outer rule: the plain policy gradient through the adaptation, by Adam (MAML-VPG)."""

from __future__ import annotations

from dataclasses import dataclass

from metarl.agents.outer.adam import AdamConfig


@dataclass(frozen=True)
class VpgConfig(AdamConfig):
    """Outer rule: one step of Adam along the meta-gradient of the return after adaptation.

    On examples it is a step down the loss of the query. On episodes it is theta <- theta +
    Adam(grad_theta mean_i E[log pi(theta_i') A]), arXiv:1703.03400, Eq. 4 and Algorithm 3, without
    a trust region: the gradient of the surrogate with importance ratios, which is the policy
    gradient at the parameters that collected the query.
    """

    sources = ("episodes", "examples")
