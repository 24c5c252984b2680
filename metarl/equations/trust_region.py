"""The trust-region step: surrogate, parameters as one vector, conjugate gradient, step length."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.equations.distributions import ActionDistribution


def surrogate_gain(
    policy: ActionDistribution,
    behaviour: ActionDistribution,
    actions: Tensor,
    advantages: Tensor,
    weights: Tensor,
) -> Tensor:
    """E[pi(a|s) / behaviour(a|s) A], to be maximised (arXiv:1502.05477, Eq. 14). Result [...]."""
    ratio = torch.exp(policy.log_probs(actions) - behaviour.log_probs(actions))
    return (weights * ratio * advantages).sum(-1)


def ravel(params: dict[str, Tensor]) -> Tensor:
    """All entries in the dictionary's order, one float64 vector."""
    return torch.cat([p.reshape(-1).double() for p in params.values()])


def unravel(vector: Tensor, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `ravel`, in the shapes and dtypes of `like`."""
    sizes = [p.numel() for p in like.values()]
    parts = vector.split(sizes)
    return {
        name: part.reshape(p.shape).to(p.dtype)
        for (name, p), part in zip(like.items(), parts, strict=True)
    }


class Solution(NamedTuple):
    x: Tensor
    residual: Tensor
    """b - A x."""
    products: int


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    b: Tensor,
    iterations: int,
    tolerance: float = 1e-10,
) -> Solution:
    """Approximately solves A x = b for a symmetric positive A given as `product`.

    Stops after `iterations`, once |residual|^2 < tolerance, or where A shows no positive
    curvature (rounding, or a thinned batch).
    """
    x, residual, direction = torch.zeros_like(b), b.clone(), b.clone()
    squared = residual.dot(residual)
    products = 0
    for _ in range(iterations):
        if squared < tolerance:
            break
        a_direction = product(direction)
        products += 1
        curvature = direction.dot(a_direction)
        if not curvature > 0:
            break
        step = squared / curvature
        x = x + step * direction
        residual = residual - step * a_direction
        before, squared = squared, residual.dot(residual)
        direction = residual + (squared / before) * direction
    return Solution(x, residual, products)


def trust_region_scale(solution: Solution, b: Tensor, max_kl: float) -> float:
    """The s for which the quadratic model of KL along s x is max_kl: sqrt(2 max_kl / x^T A x).

    arXiv:1502.05477, App. C. x^T A x = x^T (b - residual) needs no further product. Returns 0
    where the model has no positive curvature.
    """
    curvature = float(solution.x.dot(b - solution.residual))
    return math.sqrt(2.0 * max_kl / curvature) if curvature > 0 else 0.0
