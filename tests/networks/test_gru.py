"""The GRU by hand against finite differences and against torch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metarl.networks.gru import Gru

STEPS, ROWS, INPUTS, SIZE = 6, 3, 4, 5


def problem(dtype: torch.dtype, steps: int = STEPS) -> tuple[Tensor, ...]:
    """Inputs, weights, biases and a first state, all to be differentiated by."""
    g = torch.Generator().manual_seed(0)
    shapes = (steps, ROWS, INPUTS), (3 * SIZE, INPUTS), (3 * SIZE, SIZE), (3 * SIZE,), (3 * SIZE,)
    return tuple(
        torch.randn(*shape, generator=g, dtype=dtype).requires_grad_()
        for shape in (*shapes, (ROWS, SIZE))
    )


def theirs(x: Tensor, *rest: Tensor) -> Tensor:
    *weights, start = rest
    return torch.gru(x, start[None], weights, True, 1, 0.0, True, False, False)[0]


def test_derivatives_against_finite_differences():
    torch.autograd.gradcheck(Gru.apply, problem(torch.float64))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=["64", "32"]
)
@pytest.mark.parametrize("steps", [1, 40])
def test_states_and_derivatives_are_torchs(dtype: torch.dtype, tolerance: float, steps: int):
    leaves, found = problem(dtype, steps), []
    weights = torch.randn(steps, ROWS, SIZE, generator=torch.Generator().manual_seed(1))
    for gru in (Gru.apply, theirs):
        states = gru(*leaves)
        found.append((states, *torch.autograd.grad((weights * states).sum(), leaves)))
    for ours, other in zip(*found, strict=True):
        torch.testing.assert_close(ours, other, rtol=tolerance, atol=10 * tolerance)
