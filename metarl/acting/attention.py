"""A transformer in numpy, as `metarl/networks/attention.py` has it in torch, step by step.

Keys and values of all steps so far are kept, so that a step costs one row of attention. Units have
equal numbers of steps, also where some are gaps after short episodes. So each product has the same
shape for any number of workers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metarl.acting.policy import Layer, ReadyLayer
from metarl.acting.units import Units

EPSILON, BASE = np.float32(1e-5), 10_000.0
"""As in `networks/attention.py`."""
ROOM = 64
"""Steps that there is room for at first, at least."""


class Norm(NamedTuple):
    """A layer normalisation, [size] each."""

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        variance = np.square(centred).mean(-1, keepdims=True)
        return centred / np.sqrt(variance + EPSILON) * self.weight + self.bias


class Block(NamedTuple):
    """A layer: attention and an MLP, each after a normalisation and added to what it reads."""

    norm0: Norm
    qkv: Layer
    out: Layer
    norm1: Norm
    up: Layer
    down: Layer


class Attention(NamedTuple):
    """A transformer's parameters, shared by all tasks."""

    entry: Layer
    blocks: tuple[Block, ...]
    norm: Norm
    heads: int
    window: int

    @property
    def size(self) -> int:
        return len(self.norm.weight)

    def ready(self, units: Units, memory: tuple[np.ndarray, ...] | None) -> ReadyAttention:
        return ReadyAttention(self, units, memory)


class ReadyBlock:
    """The products of a layer at some units."""

    def __init__(self, block: Block, units: Units):
        self.norm0, self.norm1 = block.norm0, block.norm1
        layers = (block.qkv, block.out, block.up, block.down)
        self.qkv, self.out, self.up, self.down = (ReadyLayer(x, units) for x in layers)


class ReadyAttention:
    """A transformer at some units; each call is a step."""

    def __init__(self, attention: Attention, units: Units, memory: tuple[np.ndarray, ...] | None):
        self._attention, self._entry = attention, ReadyLayer(attention.entry, units)
        self._blocks = [ReadyBlock(block, units) for block in attention.blocks]
        grid, heads = (len(units), units.size), attention.heads
        width = attention.size // heads
        if memory is None:
            each = (len(attention.blocks), 2, heads, 0, width)
            memory = np.zeros((*grid, *each), np.float32), np.zeros((*grid, 0), np.float32)
        self._kept, self._mask = memory  # with room for further steps, from the first one on
        self._count = self._mask.shape[-1]
        powers = np.arange(0, width, 2, dtype=np.float32) / np.float32(width)
        self._frequencies = (BASE**-powers).astype(np.float32)

    @property
    def memory(self) -> tuple[np.ndarray, ...]:
        """Keys and values, [U, e, layers, 2, heads, C, width], and the mask of steps, [U, e, C]."""
        n = self._count
        return self._kept[..., :n, :], self._mask[..., :n]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Returns the output [U, e, size] at the next inputs [U, e, in]."""
        if self._count == self._mask.shape[-1]:
            self._make_room()
        n = self._count
        at = self._mask[..., :n].sum(-1, keepdims=True)  # [U, e, 1]
        self._mask[..., n] = 1.0
        self._count = n + 1
        ago = at - (self._mask[..., : n + 1].cumsum(-1) - 1.0)  # [U, e, n + 1]
        unseen = (self._mask[..., : n + 1] == 0) | (ago >= self._attention.window)
        angles = at[..., None] * self._frequencies  # [U, e, 1, width / 2]
        turns = np.cos(angles), np.sin(angles)
        h = self._entry(x).copy()
        for index, block in enumerate(self._blocks):
            q, k, v = self._heads(block.qkv(block.norm0(h)))
            kept = self._kept[:, :, index]
            kept[:, :, 0, :, n], kept[:, :, 1, :, n] = turned(k, turns), v
            keys, values = kept[:, :, 0, :, : n + 1], kept[:, :, 1, :, : n + 1]
            found = attended(turned(q, turns), keys, values, unseen)
            h += block.out(found.reshape((*x.shape[:2], -1)))
            h += block.down(np.maximum(block.up(block.norm1(h)), 0.0))
        return self._attention.norm(h)

    def _heads(self, qkv: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns queries, keys and values, [U, e, heads, width] each."""
        parts = np.split(qkv, 3, axis=-1)
        return tuple(x.reshape(*x.shape[:2], self._attention.heads, -1) for x in parts)

    def _make_room(self) -> None:
        """Doubles the number of steps that there is room for."""
        more = max(ROOM, self._count)

        def wider(x: np.ndarray, axis: int) -> np.ndarray:
            pad = [(0, 0)] * x.ndim
            pad[axis] = (0, more)
            return np.pad(x, pad)

        self._kept, self._mask = wider(self._kept, -2), wider(self._mask, -1)


def attended(
    query: np.ndarray, keys: np.ndarray, values: np.ndarray, unseen: np.ndarray
) -> np.ndarray:
    """Returns the attention [U, e, heads, width] of queries [U, e, heads, width] to keys and values
    [U, e, heads, C, width], none where `unseen` [U, e, C]."""
    root = np.float32(np.sqrt(query.shape[-1]))
    scores = np.matmul(keys, query[..., None])[..., 0] / root  # [U, e, heads, C]
    scores[np.broadcast_to(unseen[:, :, None], scores.shape)] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.matmul(weights[..., None, :], values)[..., 0, :]


def turned(x: np.ndarray, turns: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Returns x [U, e, heads, width] with each pair (x_i, x_i+width/2) turned by its angle."""
    (cos, sin), (one, other) = turns, np.split(x, 2, axis=-1)
    return np.concatenate([one * cos - other * sin, one * sin + other * cos], -1)
