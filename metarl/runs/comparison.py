"""Adaptation curves of several learners, for the table, the picture and the report."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np

from metarl.runs.adaptation import Adaptation, Outcome, aside
from metarl.runs.measures import HUGE, Measure
from metarl.runs.published import Curve as PublishedCurve
from metarl.runs.published import Published
from metarl.runs.statistics import Summary


class Kind(Enum):
    """Origin of a curve."""

    RUN = "this run"
    OTHER = "other run"
    CONTROL = "control"
    PUBLISHED = "published"
    ORACLE = "published oracle"


class Curve(NamedTuple):
    """Figures of one learner after each adaptation step."""

    name: str
    kind: Kind
    steps: tuple[int, ...]  # [S]
    env_steps: tuple[float, ...] | None
    """Environment steps, or examples, used so far, [S]; None where they were not published."""
    figures: Summary
    success: Summary | None
    measure: Measure
    origin: str = ""
    """Whether figures that are not measured were published or computed."""


def curves(
    adaptation: Adaptation,
    published: Published | None = None,
) -> list[Curve]:
    """Returns the curves of the run, of other runs, of controls and of publications, in order.

    Args:
        published: figures for the same task distribution and horizon.
    """
    found = [_measured(adaptation.agent, Kind.RUN, adaptation, adaptation.outcome)]
    for name, outcome in adaptation.others.items():
        found.append(_measured(name, Kind.OTHER, adaptation, outcome))
    for name, outcome in adaptation.controls.items():
        found.append(_measured(name, Kind.CONTROL, adaptation, outcome))
    if published:
        for name, curve in published.curves.items():
            reported = _reported(name, Kind.PUBLISHED, curve, adaptation.measure)
            found.append(reported._replace(origin=published.origin))
        if published.oracle:
            oracle = _reported("oracle", Kind.ORACLE, published.oracle, adaptation.measure)
            found.append(oracle._replace(origin=published.origin))
    return found


def _measured(name: str, kind: Kind, adaptation: Adaptation, outcome: Outcome) -> Curve:
    summaries = outcome.summary(), outcome.success_summary()
    used = outcome.env_steps or adaptation.env_steps
    return Curve(name, kind, adaptation.steps, used, *summaries, adaptation.measure)


def _reported(name: str, kind: Kind, curve: PublishedCurve, measure: Measure) -> Curve:
    mean = np.array(curve.mean, float)
    unknown = np.full(len(mean), np.nan)
    stderr = unknown if curve.stderr is None else np.array(curve.stderr, float)
    figures = Summary(mean, stderr, unknown, np.stack([unknown, unknown], axis=-1))
    return Curve(name, kind, tuple(range(len(mean))), None, figures, None, measure)


def table(found: Sequence[Curve]) -> tuple[list[str], list[list[str]]]:
    """Returns headings, and a row per curve and step; unknown figures are empty cells."""
    measure = found[0].measure
    headings = ["learner", "steps", measure.used, measure.name, "stderr", "iqm", "95% interval"]
    solved = any(curve.success for curve in found)
    digits = measure.digits(np.concatenate([curve.figures.mean for curve in found]))
    rows = [row for curve in found for row in _rows(curve, solved, digits)]
    return headings + (["success", "95% interval"] if solved else []), rows


def _rows(curve: Curve, solved: bool, digits: int) -> list[list[str]]:
    name = f"{curve.name} ({curve.origin or curve.kind.value})"
    figures, measure = curve.figures, curve.measure
    rows = []
    for i, step in enumerate(curve.steps):
        row = [
            name,
            "" if curve.kind is Kind.ORACLE else str(step),
            "" if curve.env_steps is None else f"{curve.env_steps[i]:,.0f}",
            measure.text(figures.mean[i], digits) or "not finite",
            *(measure.text(values[i], digits) for values in (figures.stderr, figures.iqm)),
            interval(figures.ci95[i], "%" if measure.share else "", digits),
        ]
        if solved and (rate := curve.success) is not None:
            row += [f"{100 * rate.mean[i]:.1f}%", interval(rate.ci95[i], "%")]
        elif solved:
            row += ["", ""]
        rows.append(row)
    return rows


def interval(ends: np.ndarray, unit: str = "", digits: int = 1) -> str:
    """Returns [low, high] as text; with `unit` "%" shares become percentages."""
    if not np.isfinite(ends).all():
        return ""
    low, high = 100 * ends if unit else ends
    if max(abs(low), abs(high)) >= HUGE:
        return f"{low:.3g} to {high:.3g}{unit}"
    return f"{low:.{digits}f} to {high:.{digits}f}{unit}"


def remarks(adaptation: Adaptation) -> list[str]:
    """Returns lines that a table of the results needs: on tasks that are no held-out ones of the
    run's distribution, and on intervals that there are not."""
    found = aside(adaptation.split, adaptation.learned, adaptation.remarks)
    if len(adaptation.tasks) == 1:
        found.append("no stderr and no 95% interval: they need more than one task")
    return found


def text_table(found: Sequence[Curve]) -> str:
    """Returns the table for a terminal or a log file."""
    return aligned(*table(found))


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table as text, with the first column aligned left and the others right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = []
    for row in (headings, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
