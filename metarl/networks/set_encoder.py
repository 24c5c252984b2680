"""An encoder of a task's samples whose output does not depend on their order."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from metarl.networks.mlp import Mlp
from metarl.types import Params


class SetEncoder:
    """Computes rho(sum_n w_n phi(x_n)) of a set of samples x_n (arXiv:1703.06114, Theorem 2).

    phi is an MLP of two layers, rho is linear. Weights that sum to one give a mean, whose scale
    does not depend on the number of samples.
    """

    def __init__(self, sample_dim: int, hidden: int, embedding: int, prefix: str):
        self.each = Mlp((sample_dim, hidden, hidden), "relu", "xavier", f"{prefix}each")
        self.all = Mlp((hidden, embedding), "relu", "xavier", f"{prefix}all")

    def init(self, rng: np.random.Generator) -> Params:
        return {**self.each.init(rng), **self.all.init(rng)}

    def __call__(self, params: Params, samples: Tensor, weights: Tensor) -> Tensor:
        """Returns [K, embedding] for samples [K, N, sample_dim] with weights [K, N]."""
        features = self.each(params, samples).relu()
        return self.all(params, (weights.unsqueeze(-2) @ features).squeeze(-2))
