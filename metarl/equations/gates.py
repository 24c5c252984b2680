"""An LSTM cell that torch.func can differentiate twice, and the inputs of learned optimizers."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_and_sign(x: Tensor, range_: float = 10.0) -> Tensor:
    """Logarithm of the magnitude, and sign: [...] -> [..., 2] (arXiv:1606.04474, App. A).

    With p = `range_`: (log|x| / p, sgn x) where |x| >= e^-p, else (-1, e^p x).
    """
    floor = math.exp(-range_)
    large = x.abs() >= floor
    magnitude = torch.where(large, x.abs(), 1.0).log() / range_
    first = torch.where(large, magnitude, -1.0)
    second = torch.where(large, x.sign(), x / floor)
    return torch.stack([first, second], -1)


def lstm_cell(
    x: Tensor, hidden: Tensor, cell: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns hidden state and cell after one LSTM step (Gers et al. 2000, without peepholes).

    Args:
        x: [..., inputs]; hidden, cell: [..., size].
        weight: [4 size, inputs + size], bias [4 size]; rows: input, forget, candidate, output.
    """
    sums = torch.nn.functional.linear(torch.cat([x, hidden], -1), weight, bias)
    input_gate, forget_gate, candidate, output_gate = sums.chunk(4, -1)
    cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
    return output_gate.sigmoid() * cell.tanh(), cell
