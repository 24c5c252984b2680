"""Conjugate gradient and the trust region's step on quadratics with known solutions."""

from __future__ import annotations

import math

import pytest
import torch

from metarl.equations.trust_region import conjugate_gradient, ravel, trust_region_scale, unravel


def matrix(n=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    root = torch.randn(n, n, generator=g, dtype=torch.float64)
    return root @ root.T + torch.eye(n, dtype=torch.float64)


def test_n_iterations_solve_an_n_dimensional_system():
    a, b = matrix(), 1e6 * torch.arange(6, dtype=torch.float64)
    solution = conjugate_gradient(lambda v: a @ v, b, 6)
    torch.testing.assert_close(solution.x, torch.linalg.solve(a, b))
    torch.testing.assert_close(solution.residual, b - a @ solution.x, atol=1e-3, rtol=0)


def test_iterations_stop_the_search_early():
    a, b = matrix(), torch.ones(6, dtype=torch.float64)
    solution = conjugate_gradient(lambda v: a @ v, b, 2)
    assert solution.products == 2
    torch.testing.assert_close(solution.residual, b - a @ solution.x)


def test_the_scaled_step_spends_the_kl_exactly():
    """s^2 x^T A x / 2 = max_kl, also where conjugate gradient stopped early."""
    a, b = matrix(), torch.ones(6, dtype=torch.float64)
    solution = conjugate_gradient(lambda v: a @ v, b, 3)
    scale = trust_region_scale(solution, b, 0.01)
    step = scale * solution.x
    assert float(0.5 * step @ a @ step) == pytest.approx(0.01)


def test_no_positive_curvature_gives_no_step():
    b = torch.ones(3, dtype=torch.float64)
    solution = conjugate_gradient(lambda v: -v, b, 5)
    assert trust_region_scale(solution, b, 0.01) == 0.0


def test_a_zero_gradient_gives_a_finite_step():
    b = torch.zeros(3, dtype=torch.float64)
    scale = trust_region_scale(conjugate_gradient(lambda v: v, b, 5), b, 0.01)
    assert math.isfinite(scale)


def test_ravel_and_unravel_are_inverse():
    params = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([7.0])}
    back = unravel(ravel(params), params)
    assert all(torch.equal(back[k], params[k]) and back[k].dtype == torch.float32 for k in params)
