"""A row of a table of runs: what was learned, for how long, and with which result."""

from __future__ import annotations

import numpy as np

from metarl.reporting.several import Member

HEADINGS = [
    "run", "agent", "before", "after", "solved after", "steps", "measure", "tasks", "seed",
    "iterations", "experience", "training time, s",
]  # fmt: skip
"""Headings of a table of runs. Numbers are in one unit, so that rows can be sorted by them."""


def run_row(member: Member, name: str) -> list[str]:
    """Returns a run's cells, as many as `HEADINGS`; unknown ones are empty."""
    last = member.rows[-1] if member.rows else {}
    used = last.get("env_steps", last.get("tasks"))
    return [
        name,
        member.agent,
        *_result(member),
        member.env,
        str(member.settings.get("seed", "")),
        f"{last['iteration']:,}" if last else "",
        f"{used:,.0f}" if used is not None and np.isfinite(used) else "",
        f"{last['wall_s']:.0f}" if np.isfinite(last.get("wall_s", np.nan)) else "",
    ]


def _result(member: Member) -> list[str]:
    """Returns the mean before and after adaptation, success, the steps and the measure."""
    if (adaptation := member.adaptation) is None:
        return ["", "", "", "", "not evaluated"]
    measure, outcome = adaptation.measure, adaptation.outcome
    with np.errstate(all="ignore"):
        ends = outcome.values[:, [0, -1]].mean(axis=(0, 2))
    digits = measure.digits(ends)
    before, after = (measure.text(float(end), digits) or "not finite" for end in ends)
    solved = "" if outcome.success is None else f"{outcome.success[:, -1].mean():.0%}"
    return [before, after, solved, str(adaptation.steps[-1]), measure.name]
