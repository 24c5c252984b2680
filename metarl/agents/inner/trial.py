"""Inner rule of RL2: a recurrent policy remembers the episodes of a trial; no parameter moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metarl.config.ranges import Count, Natural
from metarl.config.settings import InnerSettings


@dataclass(frozen=True)
class TrialConfig(InnerSettings):
    """Inner rule of a recurrent policy: to remember the episodes of a trial."""

    family = "trial"
    agents = {"episodes": "metarl.agents.rl2:Rl2"}  # noqa: RUF012
    learns_values = True
    plays_trials = True

    cell: Literal["gru", "lstm"] = "gru"
    size: Count = 128
    """Units of the hidden state."""
    steps: Natural = 9
    """Episodes of a trial but the last one."""
