"""Draws compare.png: intervals, performance profiles and probabilities of improvement."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from metarl.comparison.statistics import iqm
from metarl.runs import plot_style as look

if TYPE_CHECKING:
    from metarl.comparison.comparing import Comparison

COLORS = (look.BLUE, look.VERMILION, look.GREEN, look.PURPLE, look.ORANGE, look.SKY)
DASHES = ("-", "--", ":", "-.")
MOST_NUMBERS = 12
"""Learners up to which the cells of the matrix have numbers."""
MOST_BANDS = 6
"""Learners up to which profiles have bands, which would hide one another."""


class Line(NamedTuple):
    """Colour and dash of a learner."""

    color: str
    dash: str


def comparison_figure(comparison: Comparison) -> Figure:
    """Returns the picture of a comparison."""
    learners = len(comparison.standings)
    matrix = bool(comparison.pairs)
    height = max(4.2, 1.6 + 0.34 * learners)
    title = f"{look.titled(comparison.field.learners[0].seeds[0].adaptation.env)}: "
    title += f"{comparison.field.measure.name} after {comparison.field.steps}"
    title += " (lower is better)" if comparison.field.measure.lower_is_better else ""
    with look.titled_figure(14.5 if matrix else 10.0, height, title) as figure:
        axes = figure.subplots(1, 3 if matrix else 2, squeeze=False)[0]
        lines = _lines(learners)
        _intervals(axes[0], comparison, lines)
        _profiles(axes[1], comparison, lines)
        if matrix:
            _matrix(figure, axes[2], comparison)
    return figure


def _lines(count: int) -> list[Line]:
    colors = cycle(COLORS)
    return [Line(next(colors), DASHES[i // len(COLORS) % len(DASHES)]) for i in range(count)]


def _intervals(axes: Axes, comparison: Comparison, lines: list[Line]) -> None:
    for place, (one, line) in enumerate(zip(comparison.standings, lines, strict=True)):
        low, high = look.drawable(np.array(one.iqm[1:]))
        middle = look.drawable(np.array([one.iqm.estimate]))
        if np.isfinite(low + high):
            axes.barh(place, high - low, left=low, height=0.55, color=line.color, alpha=0.3)
        axes.plot(middle, [place], "|", color=line.color, markersize=16, markeredgewidth=3)
        seeds = look.drawable(iqm(one.learner.scores[:, None]))
        if len(seeds) > 1:
            axes.plot(seeds, np.full(len(seeds), place), ".", color=look.INK, alpha=0.5)
    names = [look.name(one.learner.label) for one in comparison.standings]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_title("interquartile mean, 95%")
    several = any(len(one.learner.scores) > 1 for one in comparison.standings)
    axes.set_xlabel(comparison.field.measure.name + (" (dots: each seed)" if several else ""))
    axes.use_sticky_edges = False  # or the ends of bars would touch the frame
    axes.margins(x=0.05)
    if comparison.field.measure.share:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))


def _profiles(axes: Axes, comparison: Comparison, lines: list[Line]) -> None:
    for one, line in zip(comparison.standings, lines, strict=True):
        at, share, low, high = map(look.drawable, one.profile)
        axes.plot(
            at, share, color=line.color, linestyle=line.dash, label=look.name(one.learner.label)
        )
        if len(lines) <= MOST_BANDS:
            axes.fill_between(at, low, high, color=line.color, alpha=0.13, linewidth=0)
    axes.set_title("performance profile")
    axes.set_xlabel(f"threshold of the {comparison.field.measure.name}")
    axes.set_ylabel("scores above it")
    look.share_axis(axes)
    if not np.allclose(np.diff(comparison.standings[0].profile.thresholds, n=2), 0):
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5))
    if comparison.field.measure.share:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    if any(line.dash != "-" for line in lines):  # colours repeat, so the intervals do not tell
        axes.legend(fontsize=8)


def _matrix(figure: Figure, axes: Axes, comparison: Comparison) -> None:
    names = [one.learner.label for one in comparison.standings]
    chances = np.full((len(names), len(names)), np.nan)
    for pair in comparison.pairs:
        row, column = names.index(pair.first), names.index(pair.second)
        chances[row, column] = pair.improvement.estimate
        chances[column, row] = 1 - pair.improvement.estimate
    drawn = axes.imshow(chances, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    labels = [look.name(name) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=90 if len(names) > 3 else 0)
    axes.set_yticks(range(len(names)), labels)
    axes.grid(visible=False)
    axes.set_title("P(row is better than column)")
    if len(names) <= MOST_NUMBERS:
        for (row, column), chance in np.ndenumerate(chances):
            if np.isfinite(chance):
                dark = abs(chance - 0.5) > 0.35
                axes.text(
                    column, row, f"{100 * chance:.0f}%", ha="center", va="center",
                    color="white" if dark else look.INK,
                )  # fmt: skip
    figure.colorbar(drawn, ax=axes, format=PercentFormatter(1.0), shrink=0.8)
