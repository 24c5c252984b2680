"""A GRU over whole sequences on a processor, with its derivative by hand.

torch's own GRU takes a dozen operations a step and adds to the weights' gradient in each. Short
operations cost the same for few rows as for many, so rows would have to stay together. Here a step
takes five operations, and three on the way back; all products that do not depend on the step
before are computed for all steps at once. With 12 rows of 128 units it takes half the time. The
loops are scripts (TorchScript), which give the bits of the functions.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Gru(torch.autograd.Function):
    """States h_t of arXiv:1406.1078 with the reset gate on the product, as in torch:

        r, z = sigmoid(W x + b + U h + c)              rows of reset and keep
        n = tanh(W x + b + r * (U h + c))              rows of new
        h_t = n + z * (h - n)

    Arguments: x [T, N, I], W [3H, I], U [3H, H], b [3H], c [3H], h_0 [N, H]; result [T, N, H].
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, own: Tensor, weight: Tensor, *rest: Tensor) -> Tensor:
        bias, past_bias, start = rest
        steps, rows, size = len(x), *start.shape
        both = bias + torch.cat([past_bias[: 2 * size], torch.zeros_like(past_bias[2 * size :])])
        gates = torch.addmm(both, x.flatten(0, 1), own.mT).view(steps, rows, 3 * size)
        new = gates[..., 2 * size :].clone()
        gates[..., 2 * size :] = past_bias[2 * size :]
        states = gates.new_empty(steps + 1, rows, size)
        states[0] = start
        _forward(gates, new, states, weight.mT.contiguous())
        ctx.save_for_backward(x, own, weight, gates, new, states)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, ...]:
        x, own, weight, gates, new, states = ctx.saved_tensors
        (reset, keep, past), before = gates.chunk(3, -1), states[:-1]
        to_new = (1 - new.square()).mul_(1 - keep)
        # dh_t times these is the derivative by U h + c.
        slopes = gates.new_empty(*new.shape[:2], 3, new.shape[2])
        torch.mul(reset, 1 - reset, out=slopes[:, :, 0]).mul_(to_new).mul_(past)
        torch.mul(keep, 1 - keep, out=slopes[:, :, 1]).mul_(before - new)
        torch.mul(to_new, reset, out=slopes[:, :, 2])
        towards = torch.cat([torch.zeros_like(new[:1]), cotangents[0]])
        _backward(slopes, towards, keep, weight)
        rows = slopes.flatten(2).flatten(0, 1)
        by_weight, by_past_bias = rows.mT @ before.flatten(0, 1), rows.sum(0)
        torch.mul(to_new, towards[1:], out=slopes[:, :, 2])  # in place of that by U h + c
        by_own = rows.mT @ x.flatten(0, 1)
        return (rows @ own).view_as(x), by_own, by_weight, rows.sum(0), by_past_bias, towards[0]


def gru_states(x: Tensor, weights: Sequence[Tensor], memory: Tensor) -> Tensor:
    """Returns the states of a GRU after each step of x [N, T, I] from `memory` [N, H], [N, T, H].

    `weights` are W, U, b and c of `Gru`. A single step, and a GPU, have torch's own GRU.
    """
    if not x.is_cuda and x.shape[1] > 1:
        return Gru.apply(x.transpose(0, 1), *weights, memory).transpose(0, 1)
    start, whole = memory[None].contiguous(), in_one_block(weights)
    return torch.gru(x, start, whole, True, 1, 0.0, True, False, True)[0]


def in_one_block(weights: Sequence[Tensor]) -> list[Tensor]:
    """Returns weights that are in one block of memory on a GPU; otherwise cuDNN warns and copies
    them at each call."""
    if not weights[0].is_cuda:
        return list(weights)
    whole = torch.cat([x.flatten() for x in weights]).split([x.numel() for x in weights])
    return [part.view_as(x) for part, x in zip(whole, weights, strict=True)]


def _forward(gates: Tensor, new: Tensor, states: Tensor, weight: Tensor) -> None:
    """Fills in gates [T, N, 3H], n [T, N, H] and states [T + 1, N, H], a step at a time."""
    size = new.shape[2]
    reset, keep, past = gates.chunk(3, -1)
    r, z, u, h = reset.unbind(), keep.unbind(), past.unbind(), states.unbind()
    gate, first_two, n = gates.unbind(), gates[:, :, : 2 * size].unbind(), new.unbind()
    for t in range(len(new)):
        gate[t].addmm_(h[t], weight)
        first_two[t].sigmoid_()
        n[t].addcmul_(r[t], u[t]).tanh_()
        torch.lerp(n[t], h[t], z[t], out=h[t + 1])


def _backward(slopes: Tensor, towards: Tensor, keep: Tensor, weight: Tensor) -> None:
    """Multiplies `slopes` [T, N, 3, H] by dh, whose parts are in `towards` [T + 1, N, H]."""
    d, wide, z = towards.unbind(), towards.unsqueeze(2).unbind(), keep.unbind()
    slope, flat = slopes.unbind(), slopes.flatten(2).unbind()
    for i in range(len(slope)):
        t = len(slope) - 1 - i
        slope[t].mul_(wide[t + 1])
        d[t].addcmul_(d[t + 1], z[t]).addmm_(flat[t], weight)


with warnings.catch_warnings():
    # As scripts they run without the interpreter lock, for which many threads would wait.
    warnings.simplefilter("ignore", DeprecationWarning)
    _forward, _backward = torch.jit.script(_forward), torch.jit.script(_backward)
