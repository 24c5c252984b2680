"""Charts of an evaluation: the gain by adaptation, and the environment steps that it costs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from metarl.reporting import ticks
from metarl.reporting.legend import Entry, legend
from metarl.reporting.svg import Chart, Line, Mark, Scale, figure
from metarl.runs.adaptation import Adaptation
from metarl.runs.comparison import Curve, Kind, curves
from metarl.runs.measures import Measure
from metarl.runs.published import Published
from metarl.runs.statistics import Summary

COLORS = ("c1", "c2", "c3", "c4", "c5")
"""Classes of colours of other runs and controls, in their order."""
PUBLISHED: tuple[tuple[str, Mark], ...] = (
    ("dotted", "diamond"), ("dashdot", "square"), ("dashed", "triangle"),
)  # fmt: skip
"""Dashes and marks of published curves."""
MOST_TASKS = 60
"""Tasks drawn as single lines."""
MOST_CURVES = 24
"""Curves that are drawn; the others are in the table."""
MOST_NOTES = 40
"""Adaptation steps up to which each has a mark."""


class Drawn(NamedTuple):
    """Charts of an evaluation with their common legend."""

    charts: list[Markup]
    legend: Markup


def adaptation_charts(adaptation: Adaptation, published: Published | None = None) -> Drawn:
    """Draws the measure against adaptation steps and environment steps, and success if defined.

    A few-shot learner has the first of these alone. Bands are 95% bootstrap intervals over tasks,
    bars published standard errors, faint lines some of the run's tasks.
    """
    measure = adaptation.measure
    found = curves(adaptation, published)[:MOST_CURVES]
    looks = _looks(found)
    pairs = list(zip(found, looks, strict=True))
    charts = [_values(adaptation, pairs, against_env_steps=False)]
    if measure.of_episodes:
        charts.append(_values(adaptation, pairs, against_env_steps=True))
    if any(curve.success for curve in found):
        charts.append(_success(pairs))
    entries: list[Entry] = [(label(curve), look, mark) for curve, (look, mark) in pairs]
    drawn = min(len(adaptation.tasks), MOST_TASKS)
    each = "its tasks, one by one" if drawn == len(adaptation.tasks) else f"{drawn} of its tasks"
    entries.append((each, "c0 faint", ""))
    return Drawn([figure(chart) for chart in charts], legend(entries, "95% interval over tasks"))


def label(curve: Curve) -> str:
    """Returns a curve's name in a legend."""
    if curve.kind in (Kind.RUN, Kind.OTHER):
        return curve.name
    return f"{curve.name} ({curve.origin or curve.kind.value})"


def scale_of(measure: Measure) -> Scale:
    """Returns the y axis that suits a measure."""
    if measure.share:
        return "share"
    return "errors" if measure.lower_is_better else "linear"


def _looks(found: Sequence[Curve]) -> list[tuple[str, Mark]]:
    """Returns classes and mark of each curve; dash and mark alone show its kind."""
    colors, published = cycle(COLORS), cycle(PUBLISHED)

    def look(kind: Kind) -> tuple[str, Mark]:
        match kind:
            case Kind.RUN:
                return "c0 bold", "circle"
            case Kind.OTHER:
                return next(colors), "square"
            case Kind.CONTROL:
                return f"{next(colors)} dashed", "triangle"
            case Kind.PUBLISHED:
                dash, mark = next(published)
                return f"ink {dash}", mark
            case Kind.ORACLE:
                return "grey longdash", ""

    return [look(curve.kind) for curve in found]


Pairs = Sequence[tuple[Curve, tuple[str, Mark]]]
"""Curves with their looks."""


def _values(adaptation: Adaptation, pairs: Pairs, against_env_steps: bool) -> Chart:
    measure = adaptation.measure
    at = np.array(adaptation.env_steps if against_env_steps else adaptation.steps, float)
    by_task = ticks.drawable(adaptation.outcome.values[:MOST_TASKS]).mean(axis=-1)
    lines = [Line(at, values, "c0 faint thin", needed=False) for values in by_task]
    lines += _lines(pairs, against_env_steps, measure)
    levels = [
        (float(ticks.drawable(curve.figures.mean)[0]), look)
        for curve, (look, _) in pairs
        if curve.kind is Kind.ORACLE
    ]
    where = "environment steps used in one task" if against_env_steps else "adaptation steps"
    by = "environment steps" if against_env_steps else "adaptation steps"
    texts = ticks.counts if against_env_steps else ticks.numbers
    title = f"{measure.name.capitalize()} by {by}"
    return Chart(title, where, lines, "", scale_of(measure), texts, True, levels)


def _success(pairs: Pairs) -> Chart:
    lines = [
        _line(curve, curve.success, np.array(curve.steps, float), look, mark, "%")
        for curve, (look, mark) in pairs
        if curve.success
    ]
    title = "Episodes solved by adaptation steps"
    return Chart(title, "adaptation steps", lines, "", "share", whole_x=True)


def _lines(pairs: Pairs, against_env_steps: bool, measure: Measure) -> list[Line]:
    """Returns the curves, the run's own last; published ones have no environment steps."""
    lines = []
    for curve, (look, mark) in reversed(pairs):
        at = curve.env_steps if against_env_steps else curve.steps
        if at is not None and curve.kind is not Kind.ORACLE:
            unit = "%" if measure.share else ""
            lines.append(_line(curve, curve.figures, np.array(at, float), look, mark, unit))
    return lines


def _line(curve: Curve, figures: Summary, at: np.ndarray, look: str, mark: Mark, unit: str) -> Line:
    figures = Summary(*map(ticks.drawable, figures))
    size = 100 if unit else 1
    if len(at) > MOST_NOTES:
        mark = ""
    notes = [
        f"{curve.name[:30]}, step {step}: {size * value:.4g}{unit}"
        for step, value in zip(curve.steps, figures.mean, strict=True)
    ]
    if curve.kind is Kind.PUBLISHED:
        return Line(at, figures.mean, look, error=figures.stderr, mark=mark, notes=notes)
    low, high = figures.ci95.T
    return Line(at, figures.mean, look, low, high, mark=mark, notes=notes)
