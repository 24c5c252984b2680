"""Actions as inputs of a network: discrete choices one-hot, numbers unchanged."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from gymnasium.spaces import Discrete, MultiDiscrete
from torch import Tensor

from metarl.types import EnvSpec


class ActionInputs:
    """Encodes actions [..., act_dim] as network inputs [..., width]."""

    def __init__(self, spec: EnvSpec):
        space = spec.action_space
        self.options: tuple[int, ...] = ()
        """Number of options of each discrete choice in an action; empty for a Box."""
        if isinstance(space, Discrete):
            self.options = (int(space.n),)
        elif isinstance(space, MultiDiscrete):
            self.options = tuple(space.nvec.tolist())
        self.width = sum(self.options) or spec.act_dim

    def __call__(self, actions: Tensor) -> Tensor:
        if not self.options:
            return actions
        choices = zip(actions.unbind(-1), self.options, strict=True)
        return torch.cat([F.one_hot(index.long(), n) for index, n in choices], -1)
