"""Updates that were skipped: how many, why, and when a run gives up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from metarl.config.files import keys
from metarl.config.settings import AnyConfig
from metarl.errors import UserError
from metarl.loop import stalls
from metarl.types import Metrics

MAX_SKIPPED = 5
"""Iterations in a row without a finite update after which the run gives up."""


@dataclass(eq=False)
class Skipped:
    """Counts of the iterations of a run that changed nothing, or whose updates were skipped in
    part."""

    config: AnyConfig
    in_a_row: int = 0
    """Iterations up to now without a finite update."""
    partly: int = 0
    """Iterations so far of which some updates were skipped."""

    def count(self, row: Metrics) -> None:
        """Counts an iteration by its metrics."""
        self.in_a_row = 0 if row["skipped"] < 1.0 else self.in_a_row + 1

    def check(
        self, iteration: int, row: Metrics, facts: stalls.Facts, note: Callable[[str], None]
    ) -> None:
        """Says where updates of an iteration that was counted were skipped.

        Raises:
            UserError: after too many in a row.
        """
        if not row["skipped"]:
            return
        part = "" if row["skipped"] == 1.0 else f"{row['skipped']:.1%} of "
        self.partly += bool(part)
        if part and self.partly > stalls.PATIENCE and self.partly % stalls.AGAIN:
            return
        cause = stalls.cause(facts)
        note(
            f"{part}iteration {iteration} skipped: a loss, gradient or KL was not finite"
            f"{f' ({cause})' if cause else ''}"
        )
        if self.in_a_row < MAX_SKIPPED:
            return
        raise UserError(
            f"iteration {iteration}: {self.in_a_row} updates in a row were "
            f"not finite\n{self._remedy(row, cause)}"
        )

    def _remedy(self, row: Metrics, cause: str) -> str:
        """Returns the likely cause of skipped updates, and the settings that may help."""
        steps = self._flags("inner.lr", "outer.lr", "outer.max_kl") or "the agent's own"
        if cause.startswith("weights"):
            return f"likely cause: {cause}, after steps that are too large ({steps})"
        if cause:
            normal = self._flags("normalisation.observations", "normalisation.rewards")
            return f"likely cause: {cause}; scale them in the tasks{normal and f' ({normal})'}"
        outer = self._flags("outer.lr", "outer.max_kl")
        if outer and math.isfinite(row.get("gradient_norm", math.nan)):  # finite before the step
            return f"likely cause: an outer step that is too large ({outer})"
        return f"likely cause: steps too large ({steps}); the data have usual magnitudes"

    def _flags(self, *settings: str) -> str:
        """Returns the flags of those settings that this run's agent has."""
        known = keys(self.config.agent)
        return ", ".join(f"--agent.{key.replace('_', '-')}" for key in settings if key in known)
