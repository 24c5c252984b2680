"""Cells of recurrent policies: the interface, and GRU and LSTM, as functions of parameters.

Sequences are [N, T, ...], one row for each trial. Fused cells run over all T steps: torch's, and on
a processor our own GRU.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from metarl.networks.gru import gru_states, in_one_block
from metarl.networks.mlp import initial_weight
from metarl.types import Params

Memory: TypeAlias = tuple[Tensor, ...]
"""State of a cell between steps, [..., *] each: h of a GRU [size], h and c of an LSTM, the keys and
values of a transformer with the mask of those that are steps."""


class Cell(Protocol):
    """Memory of a recurrent policy; the names of its parameters begin with `cell.`."""

    size: int
    """Count of numbers in the output of a step."""
    parallel: bool
    """Whether the steps of a sequence are computed together, not one after the other."""

    def init(self, rng: np.random.Generator, inputs: int, init: str) -> Params:
        """Returns initial parameters for `inputs` numbers a step; `init` is that of weights."""
        ...

    def empty(self, *shape: int, like: Tensor) -> Memory:
        """Returns the memory at the start of a trial, [*shape, ...] each."""
        ...

    def run(self, params: Params, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Returns the outputs [N, T, size] at inputs x [N, T, I] that follow `memory`, [N, ...]
        each, and the memory after the last step."""
        ...

    def after(self, params: Params, x: Tensor, lengths: Tensor, memory: Memory) -> Memory:
        """Returns the memory after the first `lengths` [N] steps (at least 1) of x [N, T, I]."""
        ...


class Gates:
    """A GRU (arXiv:1406.1078, with the reset gate on the product) or an LSTM."""

    parallel = False

    def __init__(self, kind: str, size: int):
        """`kind` is "gru" or "lstm", `size` that of the hidden state."""
        self.kind, self.size = kind, size

    def init(self, rng: np.random.Generator, inputs: int, init: str) -> Params:
        """Draws each gate apart (arXiv:1611.02779, section 2.3): hidden-to-hidden weights are
        orthogonal, biases zero. An LSTM's forget gate has bias 1, so that it remembers at first."""
        gates = {"gru": 3, "lstm": 4}[self.kind]
        weight = partial(initial_weight, rng, init=init)
        params: Params = {}
        own = [weight(self.size, inputs) for _ in range(gates)]
        params["cell.weight_ih"] = torch.cat(own)
        own = [weight(self.size, self.size, init="orthogonal") for _ in range(gates)]
        params["cell.weight_hh"] = torch.cat(own)
        for name in ("cell.bias_ih", "cell.bias_hh"):
            params[name] = torch.zeros(gates * self.size)
        if self.kind == "lstm":
            params["cell.bias_ih"][self.size : 2 * self.size] = 1.0
        return params

    def empty(self, *shape: int, like: Tensor) -> Memory:
        zeros = like.new_zeros(*shape, self.size)
        return (zeros,) if self.kind == "gru" else (zeros, zeros)

    def run(self, params: Params, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        if self.kind == "gru":
            outputs = gru_states(x, _weights(params), *memory)
            return outputs, (outputs[:, -1],)
        hidden, weights = [state[None] for state in memory], in_one_block(_weights(params))
        outputs, h, c = torch.lstm(x, hidden, weights, True, 1, 0.0, True, False, True)
        return outputs, (h[0], c[0])

    def after(self, params: Params, x: Tensor, lengths: Tensor, memory: Memory) -> Memory:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        rows, sizes, order, back = packed
        assert order is not None  # row indices sorted by length
        assert back is not None  # the inverse permutation
        hidden, weights = [state[None, order] for state in memory], in_one_block(_weights(params))
        if self.kind == "gru":
            _, *last = torch.gru(rows, sizes, hidden[0], weights, True, 1, 0.0, True, False)
        else:
            _, *last = torch.lstm(rows, sizes, hidden, weights, True, 1, 0.0, True, False)
        return tuple(state[0, back] for state in last)


def _weights(params: Params) -> list[Tensor]:
    return [params[f"cell.{name}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
