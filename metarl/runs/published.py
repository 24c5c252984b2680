"""Types of published or computed adaptation curves, which are drawn and tabled beside a run's."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Curve(NamedTuple):
    """Mean undiscounted returns after 0, 1, ... adaptation steps."""

    mean: tuple[float, ...]
    stderr: tuple[float, ...] | None = None
    """Standard error over the held-out tasks; None if not reported."""


class Published(NamedTuple):
    """Results reported, or known by computation, for one task distribution at one horizon."""

    source: str
    horizon: int
    curves: dict[str, Curve]
    oracle: Curve | None = None
    """Return of a policy that is told the task and does not adapt: one value."""
    origin: Literal["published", "computed"] = "published"

    @property
    def credit(self) -> str:
        """Returns a line on where the figures are from."""
        bars = any(curve.stderr for curve in (*self.curves.values(), self.oracle) if curve)
        ends = "; bars are standard errors over tasks" if bars else ""
        return f"{self.origin.capitalize()}: {self.source}{ends}."
