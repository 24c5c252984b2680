"""Inner rule `mapping`: maps a task's samples directly to its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metarl.agents.inner.rule import MEMORY, RULE, InnerRule, NetworkShape, RuleInput, RuleSettings
from metarl.config.ranges import Count
from metarl.config.settings import AgentConfig, AnyAgentConfig
from metarl.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from metarl.networks import mlp, set_encoder
    from metarl.types import Params
else:
    torch, mlp = lazy("torch"), lazy("metarl.networks.mlp")
    set_encoder = lazy("metarl.networks.set_encoder")

EMBEDDING = f"{MEMORY}embedding"


@dataclass(frozen=True)
class MappingConfig(RuleSettings):
    """Inner rule: a set encoder and a hypernetwork map samples to parameters; no gradient."""

    deltas: Literal["full", "head", "low-rank", "classes"] = "full"
    """Deltas added to the shared parameters: to all, to the last layer alone, to each layer a
    weight matrix of `rank` and a bias vector, or, where tasks have classes, to each class's row of
    the last layer what its own examples say."""
    rank: Count = 2
    steps: Count = 1
    """Adaptation steps in training; each adds its samples, if they are fresh."""
    embedding: Count = 64
    """Size of the embedding of the task's samples, a mean over them."""
    hidden: Count = 64
    """Units of each layer of the encoder and the hypernetwork."""

    def build(self, network: NetworkShape) -> InnerRule:
        if self.deltas == "classes":
            from metarl.agents.inner.class_mapping import ClassMapping

            return ClassMapping(self, network)
        shapes = network.shapes
        if self.deltas == "head":
            last = f"layer{network.layers - 1}."
            shapes = {name: x for name, x in shapes.items() if name.startswith(last)}
        return ParameterMapping(self, shapes, network.sample_dim)

    def without_effect(self, agent: AnyAgentConfig) -> dict[str, str]:
        found = super().without_effect(agent)
        if self.deltas != "low-rank" and self.rank != MappingConfig.rank:
            found["agent.inner.rank"] = f"its deltas are {self.deltas!r}"
        if self.deltas == "classes" and self.embedding != MappingConfig.embedding:
            found["agent.inner.embedding"] = "the network's own features are the embedding"
        if not isinstance(agent, AgentConfig) and self.steps != MappingConfig.steps:
            found["agent.inner.steps"] = "a second step on the same examples changes nothing"
        if agent.outer.importance_weighted():
            found["agent.outer.inner_ratio"] = "it takes no inner gradient"
        return found


class ParameterMapping(InnerRule):
    """Adapts by theta_i' = theta + H(e_i), with e_i the embedding of task i's samples.

    The embedding is a mean over the rounds so far, each the mean over its samples, in no order.
    The step takes no gradient. The hypernetwork H (arXiv:1609.09106) returns zero before training.
    `low-rank` adds a matrix A B^T to each layer's weights, as in arXiv:2106.09685.
    """

    reads = frozenset({"samples", "weights"})

    def __init__(self, config: MappingConfig, shapes: Mapping[str, Sequence[int]], sample_dim: int):
        self.config, self.adapted = config, tuple(shapes)
        self.steps = config.steps
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.encoder = set_encoder.SetEncoder(
            sample_dim, config.hidden, config.embedding, f"{RULE}encoder."
        )
        self.outputs = [self._width(name) for name in self.adapted]
        sizes = (config.embedding, config.hidden, sum(self.outputs))
        self.hyper = mlp.Mlp(sizes, "relu", "xavier", f"{RULE}hyper")

    def _width(self, name: str) -> int:
        """Returns how many outputs of H form the delta of one parameter."""
        shape = self.shapes[name]
        if self._factored(name):
            return self.config.rank * sum(shape)
        return int(torch.Size(shape).numel())

    def _factored(self, name: str) -> bool:
        return self.config.deltas == "low-rank" and len(self.shapes[name]) == 2

    def init(self, params: Params, rng: np.random.Generator) -> Params:
        params = {**self.encoder.init(rng), **self.hyper.init(rng)}
        last = f"{RULE}hyper{self.hyper.layers - 1}"
        said = list(torch.ones_like(params[f"{last}.weight"]).split(self.outputs))
        for rows, (name, shape) in zip(said, self.shapes.items(), strict=True):
            # Outputs start at zero except B: with A zero too, neither would get a gradient.
            rows[: self.config.rank * shape[0] if self._factored(name) else None] = 0.0
        params[f"{last}.weight"] = params[f"{last}.weight"] * torch.cat(said)
        return params

    def step(self, params: Params, given: RuleInput, index: int) -> Params:
        assert given.samples is not None
        assert given.weights is not None
        embedding = self.encoder(params, given.samples, given.weights)
        before = self.deltas(params, params[EMBEDDING]) if index else None
        if index:
            embedding = params[EMBEDDING] + (embedding - params[EMBEDDING]) / (index + 1)
        deltas = self.deltas(params, embedding)
        if before is not None:  # the deltas of fewer samples are replaced
            deltas = {name: x - before[name] for name, x in deltas.items()}
        after = {name: given.params[name] + x for name, x in deltas.items()}
        return {**after, EMBEDDING: embedding}

    def deltas(self, params: Params, embedding: Tensor) -> Params:
        """Returns H(embedding [K, n]), the delta of each parameter, [K, ...]."""
        said = self.hyper(params, embedding).split(self.outputs, -1)
        return {name: self._delta(name, x) for name, x in zip(self.shapes, said, strict=True)}

    def _delta(self, name: str, said: Tensor) -> Tensor:
        shape = self.shapes[name]
        if not self._factored(name):
            return said.unflatten(-1, shape)
        rank, (rows, columns) = self.config.rank, shape
        left, right = said.split([rank * rows, rank * columns], -1)
        return left.unflatten(-1, (rows, rank)) @ right.unflatten(-1, (rank, columns))
