"""The value function as a function of its parameters: an MLP as wide as the policy's.

Parameters are shared by all tasks or have a leading K, as in `mlp.py`. Their names begin with
`value.`, so that one dictionary holds them beside the policy's.
"""

from __future__ import annotations

from torch import Tensor

from metarl.config.settings import PolicyConfig
from metarl.networks.mlp import Mlp
from metarl.types import EnvSpec, Params


class MlpValue(Mlp):
    """Observations to the discounted return that is still to come."""

    def __init__(self, spec: EnvSpec, config: PolicyConfig):
        sizes = (spec.obs_dim, *config.hidden, 1)
        super().__init__(sizes, config.activation, config.init, "value.layer")

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        """Values [..., N] at observations [..., N, obs_dim]; `params` may hold more."""
        return super().__call__(params, x).squeeze(-1)
