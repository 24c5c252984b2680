"""An agent that learns by RL2 and reports what it draws from a replay of its trials."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from metarl.agents import catalogue
from metarl.agents.inner.trial import TrialConfig
from metarl.agents.rl2 import Rl2
from metarl.runs.replay import Replay

CAPACITY = 7


class Replaying(Rl2):
    """RL2 with a replay of the last rounds' rewards."""

    def __init__(self, spec: Any, rng: Any, device: Any):
        config = catalogue.default("rl2")
        policy = replace(config.policy, hidden=(4,))
        config = replace(config, inner=TrialConfig(size=4, steps=0), policy=policy)
        super().__init__(spec, config, rng, device)
        self.replay = Replay({"rewards": (spec.horizon,)}, CAPACITY)

    def meta_update(self, state: Any, query: Any, rng: np.random.Generator) -> dict[str, float]:
        rewards = query.rewards.transpose(1, 2).flatten(0, 1)
        self.replay.add({"rewards": rewards.numpy()})
        found = super().meta_update(state, query, rng)
        drawn = self.replay.draw(rng, 5)["rewards"]
        return {**found, "drawn": float(drawn.sum()), "kept": float(len(self.replay))}
