"""The network of a supervised learner, as a function of its parameters."""

from __future__ import annotations

from math import prod
from typing import Protocol

import numpy as np
from torch import Tensor

from metarl.config.settings_few_shot import NetworkConfig
from metarl.errors import UserError
from metarl.networks.mlp import Mlp
from metarl.types import FewShotSpec, Params


class Network(Protocol):
    """Inputs [K, N, *input_shape] to [K, N, outputs], by parameters shared or [K, ...]."""

    @property
    def layers(self) -> int:
        """Their parameters are `layer{i}.weight`, `layer{i}.bias`, the last of them the head."""
        ...

    def init(self, rng: np.random.Generator) -> Params: ...
    def __call__(self, params: Params, x: Tensor, /) -> Tensor: ...


class FlatMlp(Mlp):
    """An MLP that sees whatever an input holds as one vector."""

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        return super().__call__(params, x.flatten(2))


def network(spec: FewShotSpec, outputs: int, config: NetworkConfig) -> Network:
    """What `config` asks for.

    Raises:
        UserError: for convolutions where inputs are no images, and batch norm without them.
    """
    if config.kind == "mlp":
        if config.batch_norm:
            raise UserError(
                "agent.network.batch_norm is on, and an mlp has no channels to normalise\n"
                "  take convolutions, --agent.network.kind conv, or --agent.network.no-batch-norm"
            )
        sizes = (prod(spec.input_shape), *config.hidden, outputs)
        return FlatMlp(sizes, config.activation, config.init)
    if len(spec.input_shape) != 3:
        instead = "--agent.network.kind mlp"
        if config.batch_norm:
            instead += " --agent.network.no-batch-norm"
        raise UserError(
            f"agent.network.kind is 'conv', and an input of {spec.name} has the shape "
            f"{spec.input_shape}, no image\n  take {instead}"
        )
    from metarl.networks.conv import Conv

    return Conv(spec.input_shape, outputs, config)
