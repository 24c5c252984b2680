"""Outer rule: a natural-gradient step in a trust region (arXiv:1502.05477, App. C)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from metarl.agents.outer.rule import Stateless
from metarl.config.ranges import Count, Fraction, NonNegative, Positive, Shrinking
from metarl.config.settings import OuterSettings
from metarl.graphs import graphed, seen
from metarl.lazy import lazy

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import torch
    from torch import Tensor

    from metarl import device
    from metarl.agents.batch import Batch
    from metarl.agents.derivatives import by_hand, half_precision
    from metarl.agents.policy_gradient import MetaBatch
    from metarl.equations import trust_region as tr
    from metarl.equations.distributions import ActionDistribution
    from metarl.types import Metrics, Params
else:
    torch, tr = lazy("torch"), lazy("metarl.equations.trust_region")
    by_hand, device = lazy("metarl.agents.derivatives.by_hand"), lazy("metarl.device")
    half_precision = lazy("metarl.agents.derivatives.half_precision")


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
    product_dtype: Literal["auto", "float32", "tf32", "bfloat16", "float64"] = "auto"
    """Precision of the support's Hessian in the products; the gradient keeps its own. `tf32` is
    float32, whose products in the update a GPU makes with factors of 10 bits. `auto` is bfloat16 on
    a processor with instructions for it, float32 on others, and tf32 on a GPU."""

    def build(self) -> Trpo:
        return Trpo(self)


class Direction(NamedTuple):
    """A step of all meta-parameters, and numbers about it."""

    step: Tensor
    """[P] float64, as long as the quadratic model of the KL allows."""
    gain: Tensor
    """Surrogate gain before the step."""
    gradient_norm: Tensor
    residual: Tensor
    """Norm of what conjugate gradient leaves of the gradient."""
    products: Tensor
    old: list[ActionDistribution]
    """The policies that collected the query, for each share of the tasks."""

    def numbers(self) -> list[float]:
        """Returns gain, norms and products, for which a GPU is awaited once."""
        parts = (self.gain, self.gradient_norm, self.residual, self.products)
        return torch.stack([x.double() for x in parts]).tolist()


@dataclass(frozen=True)
class Trpo(Stateless):
    """Maximises the gain of a meta-batch within mean KL <= max_kl of the old adapted policies."""

    config: TrpoConfig

    def notes(self, sizes: Sequence[int], where: torch.device) -> tuple[str, ...]:
        """Returns what a user should know of this rule here; `sizes` are of the policy."""
        dtype, _ = by_hand.product_dtype(self.config.product_dtype, where)
        return tuple(filter(None, [half_precision.note(dtype, where, sizes)]))

    def step(
        self, meta: Params, state: tuple[()], objective: MetaBatch, rng: np.random.Generator
    ) -> tuple[Params, tuple[()], Metrics]:
        """Takes the first of `backtracks` shrinking steps that gains within the KL bound.

        `rng` draws the part of the query in the products. Where no step gains, the parameters stay
        and `line_search/accepted` is 0. `skipped` is 1 where the gradient is not finite, or gain
        or KL are not finite even at the shortest step.
        """
        config, start = self.config, tr.ravel(meta)
        _, as_tf32 = by_hand.product_dtype(config.product_dtype, objective.query.obs.device)
        found = self.direction(objective, meta, objective.thinned(config.query_fraction, rng))
        before, gradient_norm, residual, products = found.numbers()
        finite = math.isfinite(gradient_norm)
        allowed = config.backtracks if finite else 0
        for tries in range(allowed):
            after = tr.unravel(start + config.backtrack_ratio**tries * found.step, meta)
            gain, kl = by_hand.gain_and_kl(objective, after, found.old, as_tf32).tolist()
            finite = math.isfinite(gain) and math.isfinite(kl)
            if finite and gain > before and kl <= config.max_kl:
                break
        else:
            after, gain, kl, tries = meta, before, 0.0, allowed
        metrics = {
            "gradient_norm": gradient_norm,
            "cg/residual": residual,
            "cg/products": products,
            "surrogate/before": before,
            "surrogate/after": gain,
            "kl": kl,
            "line_search/backtracks": float(tries),
            "line_search/accepted": float(tries < allowed),
            "skipped": float(not finite),
        }
        return after, state, metrics

    @graphed
    def direction(self, objective: MetaBatch, meta: Params, thinned: Batch | None) -> Direction:
        """Returns the step by conjugate gradient on a part of the query, None for all of it."""
        config, where = self.config, objective.query.obs.device
        dtype, as_tf32 = by_hand.product_dtype(config.product_dtype, where)
        dtype = half_precision.usable(dtype, where, objective.policy.sizes)

        def product(vector: Tensor) -> Tensor:
            return tr.ravel(linearised.product(tr.unravel(vector, meta)))

        with device.tf32(as_tf32):
            linearised = objective.linearised(meta, thinned, dtype)
            gradient = tr.ravel(linearised.gradient)
            solution = tr.conjugate_gradient(
                product, gradient, config.cg_iterations, config.damping, seen
            )
        step = tr.trust_region_scale(solution, gradient, config.max_kl) * solution.x
        norms = gradient.norm(), solution.residual.norm()
        return Direction(step, linearised.gain, *norms, solution.products, linearised.old)
