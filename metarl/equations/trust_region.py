"""Conjugate gradient, and the step length that a KL bound allows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


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
