"""Outer rule: a natural-gradient step in a trust region (arXiv:1502.05477, App. C)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metarl.agents.outer.rule import Stateless
from metarl.config.ranges import Count, Fraction, NonNegative, Positive, Shrinking
from metarl.config.settings import OuterSettings

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from metarl.agents.derivatives.by_hand import LinearisedObjective
    from metarl.agents.policy_gradient import MetaBatch
    from metarl.types import Metrics, Params


@dataclass(frozen=True)
class TrpoConfig(OuterSettings):
    """Outer rule: a natural-gradient step inside a trust region, with a line search."""

    fits = ("differentiable",)
    sources = ("episodes",)
    derivatives = "by_hand"

    max_kl: Positive = 0.01
    """Bound of the mean KL from the old adapted policies to the new ones."""
    cg_iterations: Count = 10
    """Iterations of conjugate gradient."""
    damping: NonNegative = 1e-5
    """Multiple of the identity that is added to the Hessian of the KL."""
    backtracks: Count = 15
    """Step lengths that the line search tries."""
    backtrack_ratio: Shrinking = 0.8
    """Ratio of one length to the one before."""
    query_fraction: Fraction = 0.1
    """Share of the query data in the Gauss-Newton products; the support is taken whole."""
    product_dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """Precision of the support's Hessian in the products; the gradient keeps its own. `auto` is
    bfloat16 on a processor with instructions for it, else float32."""

    def build(self) -> Trpo:
        return Trpo(self)


class Trpo(Stateless):
    """Maximises the gain of a meta-batch within mean KL <= max_kl of the old adapted policies."""

    def __init__(self, config: TrpoConfig):
        self.config = config

    def step(
        self, meta: Params, state: tuple[()], objective: MetaBatch, rng: np.random.Generator
    ) -> tuple[Params, tuple[()], Metrics]:
        """Takes the first of `backtracks` shrinking steps that gains within the KL bound.

        `rng` draws the part of the query in the products. Where no step gains, the parameters stay
        and `line_search/accepted` is 0. `skipped` is 1 where the gradient is not finite, or gain
        or KL are not finite even at the shortest step.
        """
        from metarl.equations import trust_region as tr  # imports torch

        config, linearised = self.config, objective.linearised(meta, self.config, rng)
        direction, metrics = self.direction(linearised)
        start, before = tr.ravel(meta), linearised.gain
        finite = math.isfinite(metrics["gradient_norm"])
        allowed = config.backtracks if finite else 0
        for tries in range(allowed):
            step = config.backtrack_ratio**tries * direction
            after = tr.unravel(start + step, meta)
            gain, kl = linearised.evaluate(after)
            finite = math.isfinite(gain) and math.isfinite(kl)
            if finite and gain > before and kl <= config.max_kl:
                break
        else:
            after, gain, kl, tries = meta, before, 0.0, allowed
        metrics |= {
            "surrogate/before": before,
            "surrogate/after": gain,
            "kl": kl,
            "line_search/backtracks": float(tries),
            "line_search/accepted": float(tries < allowed),
            "skipped": float(not finite),
        }
        return after, state, metrics

    def direction(self, objective: LinearisedObjective) -> tuple[Tensor, Metrics]:
        """Returns the step as one vector, as long as the quadratic model of the KL allows."""
        from metarl.equations import trust_region as tr

        config, gradient = self.config, tr.ravel(objective.gradient)
        solution = tr.conjugate_gradient(
            lambda v: tr.ravel(objective.product(tr.unravel(v, objective.meta))),
            gradient,
            config.cg_iterations,
            config.damping,
        )
        metrics = {
            "gradient_norm": float(gradient.norm()),
            "cg/residual": float(solution.residual.norm()),
            "cg/products": float(solution.products),
        }
        return tr.trust_region_scale(solution, gradient, config.max_kl) * solution.x, metrics
