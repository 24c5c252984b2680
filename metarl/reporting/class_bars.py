"""Bars of success by class of tasks, before and after adaptation."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import numpy as np
from markupsafe import Markup, escape

from metarl.reporting.adaptation_charts import COLORS
from metarl.reporting.legend import Entry, legend
from metarl.runs.class_success import ALL_CLASSES, ClassSuccess, Rates, Solved, moment
from metarl.text import printable

MOST_NAME = 60
"""Characters of a class's name."""
TONES = ("before", "c0")
"""Classes of the bars before and after adaptation."""
MOST_RIVALS = 5
"""Other learners with marks; all of them are in the table."""


def class_bars(success: ClassSuccess) -> Markup:
    """Draws two bars for each class and for all classes, with marks for other learners.

    Marks are rates after adaptation. Thin lines are 95% bootstrap intervals over goals.
    """
    rivals = _rivals(success)
    rows = _rows(success.solved)
    drawn = []
    for place, (name, rates) in enumerate(rows.items()):
        marks = [(_rows(solved)[name].mean[-1], look) for _, solved, look in rivals]
        row = "".join(_bars(rates, success.points))
        row += "".join(_rival(rate, look) for rate, look in marks)
        height = 8 + 14 * len(success.points) + (9 if marks else 0)
        kind = ' class="all"' if place == 0 and len(rows) > 1 else ""
        drawn.append(
            f"<div{kind}><dt>{escape(printable(name[:MOST_NAME]))}</dt>"
            f'<dd><svg width="100%" height="{height}" role="img" '
            f'aria-label="{_said(rates, success.points)}">{row}</svg></dd></div>'
        )
    when = [moment(success.adaptation.steps[i]) for i in success.points]
    entries: list[Entry] = []
    for text, tone in zip(when, TONES, strict=False):
        entries.append((text, f"{tone} thick", ""))
    for name, _, look in rivals:
        entries.append((f"{name}, {when[-1]}", f"{look} bare", "triangle"))
    bars = Markup(f'<dl class="bars">{"".join(drawn)}</dl>')
    return bars + legend(entries)


def _rows(solved: Solved) -> Mapping[str, Rates]:
    """Returns the rates of all classes, then of each; a single class has one row."""
    if len(solved.classes) == 1:
        return solved.classes
    return {ALL_CLASSES: solved.overall, **solved.classes}


def _bars(rates: Rates, points: tuple[int, ...]) -> list[str]:
    parts = []
    for place, (i, tone) in enumerate(zip(points, TONES, strict=False)):
        y = 4 + 14 * place
        parts.append(f'<rect class="track" x="0" y="{y}" width="100%" height="12"/>')
        if (share := _percent(rates.mean[i])) is not None:
            parts.append(f'<rect class="{tone}" x="0" y="{y}" width="{share}" height="12"/>')
        low, high = (_percent(end) for end in rates.ci95[i])
        if low is not None and high is not None:
            parts.append(f'<line class="ci" x1="{low}" x2="{high}" y1="{y + 6}" y2="{y + 6}"/>')
    return parts


def _percent(share: float) -> str | None:
    """Returns a length of the width; None for what is not finite."""
    return f"{100 * float(np.clip(share, 0, 1)):.2f}%" if np.isfinite(share) else None


def _rival(rate: float, look: str) -> str:
    """Returns a mark below the bars."""
    at = _percent(rate)
    if at is None:
        return ""
    path = f'<path class="mark {look}" d="M0-9l4 8h-8Z"/>'
    return f'<svg x="{at}" y="100%" overflow="visible">{path}</svg>'


def _rivals(success: ClassSuccess) -> list[tuple[str, Solved, str]]:
    """Returns other learners with their colours."""
    learners = [*success.others.items()]
    learners += [(f"{name} (control)", solved) for name, solved in success.controls.items()]
    return [
        (name, solved, look)
        for (name, solved), look in zip(learners[:MOST_RIVALS], cycle(COLORS), strict=False)
    ]


def _said(rates: Rates, points: tuple[int, ...]) -> str:
    return " to ".join(f"{rates.mean[i]:.0%}" for i in points)
