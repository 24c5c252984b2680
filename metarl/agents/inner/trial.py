"""Inner rule of RL2: a recurrent policy remembers the episodes of a trial; no parameter moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metarl.config.ranges import Count, Natural
from metarl.config.settings import AnyAgentConfig, InnerSettings
from metarl.errors import UserError


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
    embeddings: tuple[Count, ...] = ()
    """Units of three layers that read the observation, the last action, and its reward with the
    flag of an episode's end; `policy.hidden` follows them. Empty: it reads all of them together."""
    head: tuple[Count, ...] = ()
    """Units of layers between the memory and the policy, and of as many between it and the value
    function."""

    def check(self, agent: AnyAgentConfig) -> None:
        super().check(agent)
        if len(self.embeddings) not in (0, 3):
            raise UserError(
                f"agent.inner.embeddings has {len(self.embeddings)} numbers; it takes none, or "
                "three: of the observation, of the last action, and of its reward"
            )
