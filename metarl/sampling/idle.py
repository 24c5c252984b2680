"""An agent that does nothing, to measure how fast environments are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.acting.idle import IdleActing
from metarl.equations.distributions import ActionDistribution
from metarl.equations.gaussian import Gaussian
from metarl.sampling.record import action_type
from metarl.types import Actor, EnvSpec


class Idle:
    """Acts by zeros, the first of all choices, in the workers or here."""

    def __init__(self, spec: EnvSpec):
        self.spec = spec
        self._type = action_type(spec)

    def acting(self, state: Any) -> IdleActing:
        return IdleActing(self.spec.act_dim, self._type)

    def behaviour(self, state: Any, outputs: Tensor) -> ActionDistribution:
        return Gaussian(outputs, torch.zeros_like(outputs))

    def actor(self, state: Any, episodes: slice) -> Actor:
        dtype = torch.int64 if self._type is np.int64 else torch.float32

        def act(
            obs: Tensor, rewards: Tensor | None, noise: Tensor
        ) -> tuple[Tensor, ActionDistribution]:
            zeros = obs.new_zeros(*obs.shape[:2], self.spec.act_dim)
            return zeros.to(dtype), Gaussian(zeros, zeros)

        return act
