"""Inner rule GBML: a network predicts the direction of the update from samples and gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from metarl.agents.inner.rule import RULE, InnerRule, NetworkShape, RuleInput, RuleSettings
from metarl.config.ranges import Count, Positive
from metarl.lazy import lazy

if TYPE_CHECKING:
    import numpy as np
    import torch

    from metarl.networks import set_encoder
    from metarl.types import Params
else:
    torch, set_encoder = lazy("torch"), lazy("metarl.networks.set_encoder")


@dataclass(frozen=True)
class DirectionsConfig(RuleSettings):
    """Inner rule: a network predicts the direction from gradients and samples (GBML)."""

    lr: Positive = 0.1
    steps: Count = 1
    """Adaptation steps in training."""
    embedding: Count = 32
    """Size of the embedding of the task's samples, which modulates the transformation."""
    hidden: Count = 64
    """Units of the samples' encoder."""
    first_order: bool = False
    """Ignore how the gradients depend on the parameters."""
    extra_step_scale: Positive = 0.5
    """Factor that shortens steps beyond `steps` at evaluation."""

    def build(self, network: NetworkShape) -> Directions:
        return Directions(self, network.shapes, network.sample_dim)


class Directions(InnerRule):
    """theta' = theta - beta phi(D, theta), in each layer phi = L diag(1 + U e) G diag(1 + V e) R.

    G [out, in + 1] is the gradient of a layer's weights, with that of its biases as last column. e
    is the embedding of the task's samples D. L and R are learned and start as the identity (as in
    arXiv:1902.03356). U and V modulate rows and columns by the task and start at zero, so it
    begins as MAML. A parameter without weights, such as log_std, is a layer of biases alone.
    """

    reads = frozenset({"gradient", "samples", "weights"})

    def __init__(
        self, config: DirectionsConfig, shapes: Mapping[str, Sequence[int]], sample_dim: int
    ):
        self.config, self.adapted = config, tuple(shapes)
        self.steps, self.first_order = config.steps, config.first_order
        self.encoder = set_encoder.SetEncoder(
            sample_dim, config.hidden, config.embedding, f"{RULE}encoder."
        )
        self.layers: dict[str, tuple[str, ...]] = {}
        """Names of each layer's weight and bias, or of one of them."""
        for name in sorted(shapes, key=lambda name: name.endswith("bias")):
            layer = name.removesuffix(".weight").removesuffix(".bias")
            self.layers[layer] = (*self.layers.get(layer, ()), name)
        self.sizes: dict[str, tuple[int, int]] = {}
        """Rows and columns of each layer's matrix."""
        for layer, names in self.layers.items():
            rows = shapes[names[0]][0]
            self.sizes[layer] = rows, sum(prod(shapes[name]) for name in names) // rows

    def init(self, params: Params, rng: np.random.Generator) -> Params:
        params = self.encoder.init(rng)
        for layer, sizes in self.sizes.items():
            for side, size in zip(("left", "right"), sizes, strict=True):
                params[f"{RULE}{side}.{layer}.weight"] = torch.eye(size)
                modulated = torch.zeros(size, self.config.embedding)
                params[f"{RULE}{side}_by.{layer}.weight"] = modulated
        return params

    def step(self, params: Params, given: RuleInput, index: int) -> Params:
        assert given.samples is not None
        assert given.weights is not None
        embedding = self.encoder(params, given.samples, given.weights)
        after: Params = {}
        for layer, names in self.layers.items():
            # A vector [K, n] is one column.
            parts = [given.gradient[n].reshape(*given.gradient[n].shape[:2], -1) for n in names]
            gradient = torch.cat(parts, -1)
            left, right, rows, columns = (
                params[f"{RULE}{side}.{layer}.weight"]
                for side in ("left", "right", "left_by", "right_by")
            )
            gradient = gradient * (1.0 + embedding @ rows.mT)[:, :, None]
            gradient = gradient * (1.0 + embedding @ columns.mT)[:, None, :]
            direction = left @ gradient @ right
            widths = [part.shape[-1] for part in parts]
            for name, part in zip(names, direction.split(widths, -1), strict=True):
                before = given.params[name]
                after[name] = before - self.config.lr * part.reshape(before.shape)
        return self.shortened(given.params, after, index, self.config.extra_step_scale)
