"""Parts of TRPO's step: surrogate, parameters as one vector, conjugate gradient, step length."""

from __future__ import annotations

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
    parts = vector.split([x.numel() for x in like.values()])
    return {n: part.view_as(x).to(x) for (n, x), part in zip(like.items(), parts, strict=True)}


TOLERANCE = 1e-10
"""Squared length of the residual at which conjugate gradient stops."""


class Solution(NamedTuple):
    x: Tensor
    residual: Tensor  # b - A x, where A = P + damping I
    products: Tensor  # []: products with P that the solution is made of


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    b: Tensor,
    iterations: int,
    damping: float = 0.0,
    seen: Callable[[Tensor], bool] = bool,
) -> Solution:
    """Solves (P + damping I) x = b approximately for a symmetric positive P, given as v -> P v.

    Stops after `iterations`, once |residual|^2 < TOLERANCE, or at a direction of no positive
    curvature, which rounding or a thinned batch can cause. Where `seen` does not look at the flag
    that says so, as on a GPU, further iterations are computed and change nothing.
    """
    x, residual, direction, squared = torch.zeros_like(b), b, b, b.dot(b)
    goes_on = torch.ones((), dtype=torch.bool, device=b.device)
    products = torch.zeros((), dtype=torch.int64, device=b.device)
    for _ in range(iterations):
        goes_on = goes_on & ~(squared < TOLERANCE)
        if seen(~goes_on):
            break
        a_direction = product(direction) + damping * direction
        products = products + goes_on
        curvature = direction.dot(a_direction)
        goes_on = goes_on & (curvature > 0)
        step = squared / curvature
        x = torch.where(goes_on, x + step * direction, x)
        residual = torch.where(goes_on, residual - step * a_direction, residual)
        before, squared = squared, residual.dot(residual)
        direction = residual + (squared / before) * direction
    return Solution(x, residual, products)


def trust_region_scale(solution: Solution, b: Tensor, max_kl: float) -> Tensor:
    """Returns s = sqrt(2 max_kl / x^T A x), or 0 if x^T A x is not positive: the quadratic model of
    the KL at the step s x is max_kl (arXiv:1502.05477, App. C). x^T A x is x^T (b - residual)."""
    curvature = solution.x.dot(b - solution.residual)
    return torch.where(curvature > 0, (2.0 * max_kl / curvature).sqrt(), 0.0)
