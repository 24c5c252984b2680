"""Recurrent cells whose every derivative is torch's own, and what learned optimizers read."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_and_sign(x: Tensor, range_: float = 10.0) -> Tensor:
    """[...] -> [..., 2]: magnitude on a logarithmic scale and sign, arXiv:1606.04474, App. A.

    (log|x| / p, sgn x) where |x| >= e^-p, else (-1, e^p x), which meets it there.
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
    """One step of an LSTM (Gers et al. 2000, without peepholes): the new hidden state and cell.

    Args:
        x: [..., inputs]; hidden, cell: [..., size].
        weight: [4 size, inputs + size], bias [4 size]: input, forget, candidate, output.
    """
    sums = torch.nn.functional.linear(torch.cat([x, hidden], -1), weight, bias)
    enter, keep, candidate, show = sums.chunk(4, -1)
    cell = keep.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
    return show.sigmoid() * cell.tanh(), cell
