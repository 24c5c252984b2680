"""Learning curves of several learners: means over seeds, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from scipy.special import stdtrit

from metarl.reporting import ticks
from metarl.reporting.learning_charts import CURVES, axes_of
from metarl.reporting.several import Learner, Member
from metarl.reporting.svg import Chart, Line, figure
from metarl.runs.class_success import moment
from metarl.runs.metrics import by_step, columns, smooth

GRID = 160
"""Points of a curve."""
COLORS = ("c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7")
DASHES = ("", " dashed", " dotted", " dashdot")
MOST_SEEDS = 10
"""Seeds with lines of their own."""
MOST_LEARNERS = 24
"""Learners that are drawn; the others are in the tables."""


class _Series(NamedTuple):
    """A metric of one run against one axis."""

    at: np.ndarray  # [iterations]
    values: np.ndarray  # [iterations]


def looks(count: int) -> list[str]:
    """Returns classes of colour and dash for each of the learners."""
    return [COLORS[i % 8] + DASHES[i // 8 % len(DASHES)] for i in range(count)]


def learning_curves(learners: Sequence[Learner], styles: Mapping[str, str]) -> list[Markup]:
    """Draws each metric after the last adaptation step, against experience and against time.

    A learner's seeds are interpolated at common points. The band is a 95% interval of the mean by
    Student's t, as seeds are few.
    """
    charts = []
    for name, (title, unit, scale) in CURVES.items():
        for kind in ("experience", "time"):
            lines, label, texts, last = [], "", ticks.counts, 0
            for learner in learners[:MOST_LEARNERS]:
                found = [_series(member, name, kind) for member in learner.members]
                series = [each[0] for each in found if each is not None]
                if series and (of_learner := _lines(series, styles[learner.label])):
                    lines += of_learner
                    _, label, texts, last = next(each for each in found if each is not None)
            if lines and kind == "time":
                lines, label, texts = _in_units(lines)
            if lines:
                what = f"{title} {moment(last)}"
                charts.append(figure(Chart(what, label, lines, unit, scale, texts)))
    return charts


def _series(member: Member, name: str, kind: str) -> tuple[_Series, str, ticks.Texts, int] | None:
    """Returns a run's metric, the name and texts of its axis, and the adaptation step."""
    if not member.rows:
        return None
    table = columns(member.rows)
    values = by_step(table, name)
    if not values:
        return None
    after = smooth(ticks.drawable(values[-1]), max(1, len(member.rows) // 30))
    axis = axes_of(table)[0]
    at = ticks.drawable(axis.at)
    if kind == "time":
        if "wall_s" not in table:
            return None
        at = ticks.drawable(table["wall_s"])
    return _Series(at, after), axis.label, axis.texts, len(values) - 1


def _lines(series: Sequence[_Series], look: str) -> list[Line]:
    """Returns the mean over seeds where all of them have values, and each seed as a faint line."""
    known = []
    for each in series:
        fine = np.isfinite(each.at) & np.isfinite(each.values)
        if fine.any():
            order = np.argsort(each.at[fine], kind="stable")
            known.append(_Series(each.at[fine][order], each.values[fine][order]))
    if not known:
        return []
    low, high = max(each.at[0] for each in known), min(each.at[-1] for each in known)
    if not high >= low:  # seeds that have nothing in common
        return []
    at = np.linspace(low, high, GRID if high > low else 1)
    values = np.stack([np.interp(at, each.at, each.values) for each in known])
    mean = values.mean(axis=0)
    mark = "circle" if len(at) == 1 else ""
    if (count := len(values)) < 2:
        return [Line(at, mean, look, mark=mark)]
    half = stdtrit(count - 1, 0.975) * values.std(axis=0, ddof=1) / math.sqrt(count)
    whole = Line(at, mean, f"{look} bold", mean - half, mean + half, mark=mark)
    return [*(Line(at, each, f"{look} faint") for each in values[:MOST_SEEDS]), whole]


def _in_units(lines: Sequence[Line]) -> tuple[list[Line], str, ticks.Texts]:
    """Returns curves against seconds in a unit that suits the longest, and the axis's label."""
    unit, name = ticks.time_unit(max(float(line.x.max()) for line in lines))
    scaled = [line._replace(x=line.x / unit) for line in lines]
    return scaled, f"wall-clock time, {name}", ticks.numbers
