"""Actions that are the same whatever is observed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metarl.acting.policy import Ready
from metarl.acting.units import Units


class IdleActing(NamedTuple):
    """Actions of zeros in the workers."""

    act_dim: int
    action_type: type

    output_dim = 1

    def of(self, units: Units) -> IdleActing:
        return self

    def ready(self, units: Units) -> Ready:
        actions = np.zeros((len(units), units.size, self.act_dim), self.action_type)
        outputs = np.zeros((len(units), units.size, 1), np.float32)
        return lambda obs, rewards, noise: (actions, outputs)
