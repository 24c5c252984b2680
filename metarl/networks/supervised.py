"""Networks of few-shot learning as functions of their parameters."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor

from metarl.config.settings import NetworkConfig
from metarl.errors import UserError
from metarl.networks.mlp import Mlp, activated, linear
from metarl.types import FewShotSpec, Params

if TYPE_CHECKING:
    from metarl.networks.conv import Conv


Network: TypeAlias = "FlatMlp | Conv"
"""Maps inputs [K, N, *input_shape] to [K, N, outputs]; parameters are shared or [K, ...]."""


class FlatMlp(Mlp):
    """An MLP that flattens each input to a vector."""

    @property
    def multiplications(self) -> int:
        """Returns how many there are in the prediction of one example."""
        return sum(before * after for before, after in pairwise(self.sizes))

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        return super().__call__(params, x.flatten(2))

    def features(self, params: Params, x: Tensor) -> Tensor:
        """Returns the inputs of the last layer, [K, N, features]."""
        x = x.flatten(2)
        for i in range(self.layers - 1):
            weight, bias = params[f"{self.prefix}{i}.weight"], params[f"{self.prefix}{i}.bias"]
            x = activated(linear(x, weight, bias), self.activation)
        return x


def network(spec: FewShotSpec, outputs: int, config: NetworkConfig) -> Network:
    """Builds the network that `config` describes.

    Raises:
        UserError: for convolutions on inputs that are not images, and for batch norm in an mlp.
    """
    if config.kind == "mlp":
        if config.batch_norm:
            raise UserError(
                "agent.network.batch_norm is on, and an mlp has no channels to normalise\n"
                "  use convolutions, --agent.network.kind conv, or --agent.network.no-batch-norm"
            )
        if config.strides:
            raise UserError(
                "agent.network.strides is on, and an mlp has no convolutions\n"
                "  use convolutions, --agent.network.kind conv, or --agent.network.no-strides"
            )
        sizes = (prod(spec.input_shape), *config.hidden, outputs)
        return FlatMlp(sizes, config.activation, config.init)
    if len(spec.input_shape) != 3:
        instead = "--agent.network.kind mlp"
        if config.batch_norm:
            instead += " --agent.network.no-batch-norm"
        if config.strides:
            instead += " --agent.network.no-strides"
        raise UserError(
            f"agent.network.kind is 'conv', and an input of {spec.name} has the shape "
            f"{spec.input_shape}, no image\n  use {instead}"
        )
    from metarl.networks.conv import Conv

    return Conv(spec.input_shape, outputs, config)
