"""Inner rule `mapping`: from a task's samples straight to its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from metarl.agents.inner.rule import MEMORY, RULE, Seen
from metarl.config.settings import MappingConfig
from metarl.networks.mlp import Mlp
from metarl.networks.set_encoder import SetEncoder
from metarl.types import Params

EMBEDDING = f"{MEMORY}embedding"


class ParameterMapping:
    """theta_i' = theta + H(e_i), e_i the embedding of task i's samples: a mean over its
    rounds so far, each the mean over its samples.

    The encoder does not know their order, nor does the step: it takes no gradient. The
    hypernetwork H (arXiv:1609.09106) says zero before training. `low-rank` says a matrix
    A B^T for each layer's weights, as in arXiv:2106.09685.
    """

    gradients = False

    def __init__(self, config: MappingConfig, shapes: Mapping[str, Sequence[int]], sample_dim: int):
        self.config, self.moved = config, tuple(shapes)
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.encoder = SetEncoder(sample_dim, config.hidden, config.embedding, f"{RULE}encoder.")
        self.outputs = [self._width(name) for name in self.moved]
        sizes = (config.embedding, config.hidden, sum(self.outputs))
        self.hyper = Mlp(sizes, "relu", "xavier", f"{RULE}hyper")

    def _width(self, name: str) -> int:
        """Numbers that make the delta of one parameter."""
        shape = self.shapes[name]
        if self._factored(name):
            return self.config.rank * sum(shape)
        return int(torch.Size(shape).numel())

    def _factored(self, name: str) -> bool:
        return self.config.deltas == "low-rank" and len(self.shapes[name]) == 2

    def init(self, rng: np.random.Generator) -> Params:
        params = {**self.encoder.init(rng), **self.hyper.init(rng)}
        last = f"{RULE}hyper{self.hyper.layers - 1}"
        said = list(torch.ones_like(params[f"{last}.weight"]).split(self.outputs))
        for rows, (name, shape) in zip(said, self.shapes.items(), strict=True):
            # All that is said is zero, but for B: with A zero too it would never be another.
            rows[: self.config.rank * shape[0] if self._factored(name) else None] = 0.0
        params[f"{last}.weight"] = params[f"{last}.weight"] * torch.cat(said)
        return params

    def move(self, params: Params, seen: Seen, index: int) -> Params:
        embedding = self.encoder(params, seen.samples, seen.weights)
        before = self.deltas(params, params[EMBEDDING]) if index else None
        if index:
            embedding = params[EMBEDDING] + (embedding - params[EMBEDDING]) / (index + 1)
        deltas = self.deltas(params, embedding)
        if before is not None:  # those of fewer samples give way
            deltas = {name: x - before[name] for name, x in deltas.items()}
        moved = {name: params[name] + x for name, x in deltas.items()}
        return {**moved, EMBEDDING: embedding}

    def deltas(self, params: Params, embedding: Tensor) -> Params:
        """H(embedding [K, n]): what is added to each parameter, [K, ...]."""
        said = self.hyper(params, embedding).split(self.outputs, -1)
        return {name: self._delta(name, x) for name, x in zip(self.shapes, said, strict=True)}

    def _delta(self, name: str, said: Tensor) -> Tensor:
        shape = self.shapes[name]
        if not self._factored(name):
            return said.unflatten(-1, shape)
        rank, (rows, columns) = self.config.rank, shape
        left, right = said.split([rank * rows, rank * columns], -1)
        return left.unflatten(-1, (rows, rank)) @ right.unflatten(-1, (rank, columns))
