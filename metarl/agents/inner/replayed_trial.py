"""Inner rule of off-policy agents with a memory: the memory adapts, and trials are kept."""

from __future__ import annotations

from dataclasses import dataclass

from metarl.config.ranges import Count, Natural
from metarl.config.settings import InnerSettings


@dataclass(frozen=True)
class ReplayedTrialConfig(InnerSettings):
    """Inner rule of a recurrent actor that learns from a replay: to remember a trial's episodes."""

    family = "replayed-trial"
    agents = {"episodes": "metarl.agents.rl2_sac:Rl2Sac"}  # noqa: RUF012
    learns_values = True
    plays_trials = True

    size: Count = 128
    """Units of each GRU's state: the actor has one, and the critics share another."""
    embedding: Count = 64
    """Units of the layer before a GRU, and of the layer on the way past it."""
    steps: Natural = 1
    """Episodes of a trial but the last one."""
