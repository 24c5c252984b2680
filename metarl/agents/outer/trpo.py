"""Outer rule: a natural-gradient step in a trust region (arXiv:1502.05477, App. C)."""

from __future__ import annotations

import math

from torch import Tensor

from metarl.agents.objective import AdaptationObjective
from metarl.config.settings import TrpoConfig
from metarl.equations.trust_region import conjugate_gradient, ravel, trust_region_scale, unravel
from metarl.types import Metrics, Params


class Trpo:
    """Maximises the objective's gain within mean KL <= max_kl of the old policies."""

    def __init__(self, config: TrpoConfig):
        self.config = config

    def direction(self, objective: AdaptationObjective) -> tuple[Tensor, Metrics]:
        """The step as one vector, as long as the quadratic model of the KL allows."""
        meta, config = objective.meta, self.config

        def product(vector: Tensor) -> Tensor:
            return ravel(objective.product(unravel(vector, meta))) + config.damping * vector

        gradient = ravel(objective.gradient)
        solution = conjugate_gradient(product, gradient, config.cg_iterations)
        scale = trust_region_scale(solution, gradient, config.max_kl)
        metrics = {
            "gradient_norm": float(gradient.norm()),
            "cg/residual": float(solution.residual.norm()),
            "cg/products": float(solution.products),
        }
        return scale * solution.x, metrics

    def step(self, meta: Params, objective: AdaptationObjective) -> tuple[Params, Metrics]:
        """New meta-parameters: the first of `backtracks` shrinking steps that gains within the
        KL bound. Where none does, the old ones, and `line_search/accepted` is 0. `skipped` is 1
        where the gradient is not finite, or gain or KL are not even at the shortest step."""
        direction, metrics = self.direction(objective)
        start, gain, kl = ravel(meta), objective.gain, 0.0
        metrics["surrogate/before"] = objective.gain
        finite = math.isfinite(metrics["gradient_norm"])
        accepted, candidate, tries = False, meta, 0
        allowed = self.config.backtracks if finite else 0
        while tries < allowed and not accepted:
            ratio = self.config.backtrack_ratio**tries
            candidate = unravel(start + ratio * direction, meta)
            gain, kl = objective.evaluate(candidate)
            finite = math.isfinite(gain) and math.isfinite(kl)
            accepted = finite and gain > objective.gain and kl <= self.config.max_kl
            tries += 1
        metrics["line_search/backtracks"] = float(tries - 1 if accepted else tries)
        metrics["line_search/accepted"] = float(accepted)
        metrics["surrogate/after"] = gain if accepted else objective.gain
        metrics["kl"] = kl if accepted else 0.0
        metrics["skipped"] = float(not finite)
        return (candidate if accepted else meta), metrics
