"""The value function as a function of its parameters: an MLP as wide as the policy's.

Parameters are shared by all tasks or have a leading K, as in `mlp.py`. Their names begin with
`value.`, so that one dictionary holds them beside the policy's.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metarl.config import PolicyConfig
from metarl.networks.mlp import initial_weight, linear
from metarl.types import EnvSpec, Params


class MlpValue:
    """Observations to the discounted return that is still to come."""

    def __init__(self, spec: EnvSpec, config: PolicyConfig):
        self.config = config
        self.sizes = (spec.obs_dim, *config.hidden, 1)
        self.layers = len(self.sizes) - 1

    def init(self, rng: np.random.Generator) -> Params:
        """Weights by `config.init`, biases zero. No task axis."""
        params: Params = {}
        for i, (fan_in, fan_out) in enumerate(zip(self.sizes[:-1], self.sizes[1:], strict=True)):
            weight = initial_weight(rng, fan_out, fan_in, self.config.init)
            params[f"value.layer{i}.weight"] = torch.from_numpy(weight).float()
            params[f"value.layer{i}.bias"] = torch.zeros(fan_out)
        return params

    def __call__(self, params: Params, obs: Tensor) -> Tensor:
        """Values [..., N] at obs [..., N, obs_dim]; `params` may hold more."""
        x = obs
        for i in range(self.layers):
            x = linear(x, params[f"value.layer{i}.weight"], params[f"value.layer{i}.bias"])
            if i < self.layers - 1:
                x = x.relu() if self.config.activation == "relu" else x.tanh()
        return x.squeeze(-1)
