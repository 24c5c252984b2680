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

    cell: Literal["gru", "lstm", "transformer"] = "gru"
    """Memory of the policy; a transformer attends to the steps of the trial so far."""
    size: Count = 128
    """Units of the hidden state; width of a transformer."""
    steps: Natural = 9
    """Episodes of a trial but the last one."""
    embeddings: tuple[Count, ...] = ()
    """Units of three layers that read the observation, the last action, and its reward with the
    flag of an episode's end; `policy.hidden` follows them. Empty: it reads all of them together."""
    head: tuple[Count, ...] = ()
    """Units of layers between the memory and the policy, and of as many between it and the value
    function."""

    layers: Count = 2
    """Layers of attention of a transformer."""
    heads: Count = 4
    """Heads of a transformer's attention; each has `size` / `heads` numbers, an even number."""
    window: Natural = 0
    """Steps that a transformer attends to, the present one and those before it. 0: as many as a
    trial of training has. In longer trials it forgets the earliest steps."""

    def without_effect(self, agent: AnyAgentConfig) -> dict[str, str]:
        found = super().without_effect(agent)
        if self.cell != "transformer":
            for name in ("layers", "heads", "window"):
                if getattr(self, name) != getattr(TrialConfig, name):
                    found[f"agent.inner.{name}"] = "only a transformer has it"
        return found

    def window_of(self, horizon: int) -> int:
        """Returns the steps that a transformer attends to, with episodes of `horizon` steps.

        Raises:
            UserError: for a window that is shorter than a trial.
        """
        trial, count = (self.steps + 1) * horizon, f"{self.steps + 1} episodes"
        count = "1 episode" if not self.steps else count
        if self.cell == "transformer" and 0 < self.window < trial:
            raise UserError(
                f"the sequence is longer than the transformer's window: a trial has {trial:,} "
                f"steps ({count} of {horizon}), agent.inner.window is "
                f"{self.window:,}\nset --agent.inner.window to 0 or to {trial}, or lower "
                "--agent.inner.steps or --env.horizon"
            )
        return self.window or trial

    def check(self, agent: AnyAgentConfig) -> None:
        super().check(agent)
        if len(self.embeddings) not in (0, 3):
            raise UserError(
                f"agent.inner.embeddings has {len(self.embeddings)} numbers; it takes none, or "
                "three: of the observation, of the last action, and of its reward"
            )
        if self.cell == "transformer" and (self.size % self.heads or self.size // self.heads % 2):
            raise UserError(
                f"agent.inner.size is {self.size}; with {self.heads} heads it must be a multiple "
                f"of {2 * self.heads}\nset --agent.inner.size to one, or change --agent.inner.heads"
            )
