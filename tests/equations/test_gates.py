"""The cell against torch's own, and what learned optimizers read."""

from __future__ import annotations

import math

import pytest
import torch

from metarl.equations.gates import log_and_sign, lstm_cell


def test_the_cell_is_torchs():
    torch.manual_seed(0)
    theirs = torch.nn.LSTMCell(3, 5, dtype=torch.float64)
    x, h, c = (torch.randn(2, 7, n, dtype=torch.float64) for n in (3, 5, 5))
    weight = torch.cat([theirs.weight_ih, theirs.weight_hh], 1)
    ours = lstm_cell(x, h, c, weight, theirs.bias_ih + theirs.bias_hh)
    expected = theirs(x.flatten(0, 1), (h.flatten(0, 1), c.flatten(0, 1)))
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one.flatten(0, 1), other)


def test_magnitude_and_sign():
    x = torch.tensor([math.e**-5, -1.0, 0.0, 0.5 * math.e**-10], dtype=torch.float64)
    expected = [[-0.5, 1.0], [0.0, -1.0], [-1.0, 0.0], [-1.0, 0.5]]
    torch.testing.assert_close(log_and_sign(x), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("p", [4.0, 10.0])
def test_it_meets_itself_at_the_floor_and_has_finite_derivatives(p):
    edge = math.exp(-p)
    x = torch.tensor([edge * (1 - 1e-9), edge * (1 + 1e-9), 0.0, 3.0], dtype=torch.float64)
    x.requires_grad_()
    below, above, *_ = log_and_sign(x, p)
    torch.testing.assert_close(below, above, atol=1e-6, rtol=0)
    (slope,) = torch.autograd.grad(log_and_sign(x, p).sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), x)
    assert slope.isfinite().all()
    assert bend.isfinite().all()
