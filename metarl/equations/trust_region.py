"""Parts of TRPO's step: surrogate, parameters as one vector, conjugate gradient, step length."""

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
    """E[pi(a|s) / behaviour(a|s) A], [...], to be maximised (arXiv:1502.05477, Eq. 14)."""
    ratio = torch.exp(policy.log_probs(actions) - behaviour.log_probs(actions))
    return (weights * ratio * advantages).sum(-1)


def ravel(params: dict[str, Tensor]) -> Tensor:
    """Returns all parameters as one float64 vector, in the dictionary's order."""
    return torch.cat([p.reshape(-1).double() for p in params.values()])


def unravel(vector: Tensor, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns a vector as named parameters with the shapes and dtypes of `like`."""
    sizes = [p.numel() for p in like.values()]
    parts = vector.split(sizes)
    return {
        name: part.reshape(p.shape).to(p.dtype)
        for (name, p), part in zip(like.items(), parts, strict=True)
    }


class Solution(NamedTuple):
    x: Tensor
    residual: Tensor  # b - A x
    products: int  # products with A that were computed


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    b: Tensor,
    iterations: int,
    tolerance: float = 1e-10,
) -> Solution:
    """Solves A x = b approximately for a symmetric positive A, given as `product` (v -> A v).

    Stops after `iterations`, once |residual|^2 < tolerance, or at a direction of no positive
    curvature, which rounding or a thinned batch can cause.
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
    """Returns s = sqrt(2 max_kl / x^T A x): the quadratic model of KL at the step s x is max_kl.

    arXiv:1502.05477, App. C. x^T A x = x^T (b - residual) needs no further product. Returns 0
    if x^T A x is not positive.
    """
    curvature = float(solution.x.dot(b - solution.residual))
    return math.sqrt(2.0 * max_kl / curvature) if curvature > 0 else 0.0
