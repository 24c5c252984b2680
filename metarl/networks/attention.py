"""A transformer as the memory of a policy: causal attention to the steps of a trial.

    h_0     = W x + b                                                   [size] of each step
    h'_l    = h_l + O_l attention(N(h_l)),  h_l+1 = h'_l + D_l relu(U_l N'(h'_l))
    output  = N''(h_last)

N are layer normalisations before each branch (arXiv:2002.04745). Attention has several heads
(arXiv:1706.03762, section 3.2). Queries and keys are turned by angles that grow with their step's
number in the trial (arXiv:2104.09864, Eq. 34), so that scores depend on how long ago a step was,
and on no length of the trial. A step attends to itself and to the `window` - 1 steps before it.

The memory is what later steps attend to: keys and values of all steps so far, [..., layers, 2,
heads, C, size / heads], and the mask [..., C] of those that are steps: short episodes leave gaps. A
run over T steps gives what T runs over one step give, up to rounding.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.networks.cells import Memory
from metarl.networks.mlp import initial_weight
from metarl.types import Params

EPSILON = 1e-5
"""Number that is added to variances in layer normalisation."""
BASE = 10_000.0
"""Ratio of the longest to the shortest wavelength of the turning keys, about."""
WIDER = 4
"""Ratio of the units between U and D to `size`."""


class Transformer:
    """Layers of causal attention, with pre-normalisation and rotary positions."""

    parallel = True

    def __init__(self, size: int, layers: int, heads: int, window: int):
        """`heads` divide `size` into even parts; `window` is a number of steps."""
        self.size, self.layers, self.heads, self.window = size, layers, heads, window

    def init(self, rng: np.random.Generator, inputs: int, init: str) -> Params:
        """Draws weights by `init`; those that end a branch are divided by the root of the number of
        branches, as in GPT-2, so that the sum does not grow with the layers. Biases are zero."""
        size, weight = self.size, partial(initial_weight, rng, init=init)
        params: Params = {"cell.in.weight": weight(size, inputs), "cell.in.bias": torch.zeros(size)}
        branches = (2 * self.layers) ** 0.5
        for layer in range(self.layers):
            name = f"cell.layer{layer}"
            params |= _norm(f"{name}.norm0", size) | _norm(f"{name}.norm1", size)
            params[f"{name}.qkv.weight"] = torch.cat([weight(size, size) for _ in range(3)])
            params[f"{name}.out.weight"] = weight(size, size) / branches
            params[f"{name}.up.weight"] = weight(WIDER * size, size)
            params[f"{name}.down.weight"] = weight(size, WIDER * size) / branches
            for part in ("qkv", "out", "up", "down"):
                width = len(params[f"{name}.{part}.weight"])
                params[f"{name}.{part}.bias"] = torch.zeros(width)
        return params | _norm("cell.norm", size)

    def empty(self, *shape: int, like: Tensor) -> Memory:
        each = (self.layers, 2, self.heads, 0, self.size // self.heads)
        return like.new_zeros(*shape, *each), like.new_zeros(*shape, 0)

    def run(self, params: Params, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        kept, mask = memory
        at = mask.sum(1, keepdim=True) + torch.arange(x.shape[1], device=x.device)  # [N, T]
        mask = torch.cat([mask, torch.ones_like(at, dtype=mask.dtype)], 1)
        ago = at[:, :, None] - (mask.cumsum(1) - 1)[:, None]  # [N, T, C + T]
        seen = (mask[:, None] > 0) & (ago >= 0) & (ago < self.window)
        turns = turning(at, self.size // self.heads)
        h, new = F.linear(x, params["cell.in.weight"], params["cell.in.bias"]), []
        for layer in range(self.layers):
            name, own = f"cell.layer{layer}", kept[:, layer]
            q, k, v = self._heads(params, name, normalised(params, f"{name}.norm0", h))
            q, k = (turned(part, turns) for part in (q, k))
            new.append(torch.stack([k, v], 1))
            keys, values = (torch.cat([own[:, i], part], 2) for i, part in enumerate((k, v)))
            found = F.scaled_dot_product_attention(q, keys, values, seen[:, None])
            h = h + _linear(params, f"{name}.out", found.transpose(1, 2).flatten(2))
            wide = _linear(params, f"{name}.up", normalised(params, f"{name}.norm1", h)).relu()
            h = h + _linear(params, f"{name}.down", wide)
        memory = torch.cat([kept, torch.stack(new, 1)], 4), mask
        return normalised(params, "cell.norm", h), memory

    def after(self, params: Params, x: Tensor, lengths: Tensor, memory: Memory) -> Memory:
        _, (kept, mask) = self.run(params, x, memory)
        steps = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        return kept, torch.cat([memory[1], steps.to(mask)], 1)

    def _heads(self, params: Params, name: str, x: Tensor) -> tuple[Tensor, ...]:
        """Returns queries, keys and values, [N, heads, T, size / heads] each."""
        parts = _linear(params, f"{name}.qkv", x).chunk(3, -1)
        return tuple(part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)


def turning(at: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Returns cosines and sines of the angles of steps `at` [N, T], [N, 1, T, width / 2]."""
    powers = torch.arange(0, width, 2, device=at.device).to(at) / width
    angles = at[:, None, :, None] * (BASE**-powers)
    return angles.cos(), angles.sin()


def turned(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Returns x [N, heads, T, width] with each pair (x_i, x_i+width/2) turned by its angle."""
    (cos, sin), (one, other) = turns, x.chunk(2, -1)
    return torch.cat([one * cos - other * sin, one * sin + other * cos], -1)


def normalised(params: Params, name: str, x: Tensor) -> Tensor:
    """Returns the layer normalisation of x [..., size] by the parameters of this name."""
    scale, shift = params[f"{name}.weight"], params[f"{name}.bias"]
    return F.layer_norm(x, (x.shape[-1],), scale, shift, EPSILON)


def _linear(params: Params, name: str, x: Tensor) -> Tensor:
    return F.linear(x, params[f"{name}.weight"], params[f"{name}.bias"])


def _norm(name: str, size: int) -> Params:
    return {f"{name}.weight": torch.ones(size), f"{name}.bias": torch.zeros(size)}
