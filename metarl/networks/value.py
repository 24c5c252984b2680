"""The value function as a function of its parameters: an MLP as wide as the policy.

Parameters are shared by all tasks or have a leading K, as in `mlp.py`. Their names begin with
`value.`, so one dictionary can hold them and the policy's.
"""

from __future__ import annotations

from torch import Tensor

from metarl.config.settings import PolicyConfig
from metarl.networks.mlp import Mlp
from metarl.networks.torso import torso_of
from metarl.types import EnvSpec, Params


class MlpValue(Mlp):
    """Predicts the discounted return from an observation on."""

    def __init__(self, spec: EnvSpec, config: PolicyConfig):
        sizes = (spec.obs_dim, *config.hidden, 1)
        torso = torso_of(spec, config, "value.")
        super().__init__(sizes, config.activation, config.init, "value.layer", torso)

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        """Returns values [..., N] for obs [..., N, obs_dim]; ignores other entries of `params`."""
        return super().__call__(params, x).squeeze(-1)
