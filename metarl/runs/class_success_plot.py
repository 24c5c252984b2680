"""Draws success.png: success rates by class of tasks, before and after adaptation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from metarl.runs import plot_style as look
from metarl.runs.adaptation import aside
from metarl.runs.adaptation_plot import COLORS
from metarl.runs.class_success import ALL_CLASSES, ClassSuccess, Rates, Solved, moment

BAR = 0.36
"""Height of a bar, in rows."""
MOST_CLASSES = 100
"""Classes with bars of their own, of which Meta-World has 50; the others are in the table."""
TONES = ("#A9CFE8", look.BLUE)
"""Colours of the bars before and after adaptation."""
APART = 0.8
"""Rows between the bars over all classes and the first class."""
MARKER = {"linestyle": "none", "markersize": 7, "markeredgecolor": "white", "clip_on": False}
OFFICIAL = {**MARKER, "marker": "D", "markersize": 5, "color": "white", "markeredgecolor": look.INK}


def success_figure(success: ClassSuccess) -> Figure:
    """Draws a bar for each class and for all classes, with markers for other learners.

    Markers are rates after adaptation. Error bars are 95% bootstrap intervals over goals, diamonds
    metaworld's own count. The dashed line is the rate of a learner that solves just one class.
    """
    rows = _rows(success.solved)
    at = np.arange(len(rows), dtype=float)
    at[1:] += APART
    inches = (0.5 if len(rows) < 20 else 0.38) * (at[-1] + 1.6)
    with look.titled_figure(12.5, 1.0 + max(2.0, inches), _title(success)) as figure:
        axes = figure.add_subplot()
        _bars(axes, at, list(rows.values()), success.points)
        rivals = _rivals(success)
        for i, (solved, line) in enumerate(rivals):
            after = [rates.mean[-1] for rates in _rows(solved).values()]
            below = len(success.points) * BAR / 2 + 0.2 * i / len(rivals)  # shows equal rates
            axes.plot(after, at + below, zorder=5, **line)
        if len(rows) > 1:
            _floor(axes, len(success.goals))
        axes.set_yticks(at, [*rows])
        axes.set_ylim(at[-1] + 0.7, -0.9)
        axes.grid(visible=False, axis="y")
        axes.set_xlim(-0.004, 1.02)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("episodes solved")
        axes.get_yticklabels()[0].set_fontweight("bold")
        _legend(figure, success, [line for _, line in rivals])
    return figure


def _rows(solved: Solved) -> dict[str, Rates]:
    """Returns the rates of all classes, then of the first; a single class has one row."""
    if len(solved.classes) == 1:
        return dict(solved.classes)
    return {ALL_CLASSES: solved.overall, **dict(islice(solved.classes.items(), MOST_CLASSES))}


def _bars(axes: Axes, at: np.ndarray, rows: list[Rates], points: tuple[int, ...]) -> None:
    for place, (i, color) in enumerate(zip(points, TONES, strict=False)):
        side = (place - (len(points) - 1) / 2) * BAR
        mean = np.array([rates.mean[i] for rates in rows])
        low, high = np.array([rates.ci95[i] for rates in rows]).T
        axes.barh(at + side, mean, BAR, color=color)
        for width, ink in ((3.0, "white"), (1.2, look.INK)):  # the white rim shows on blue
            axes.errorbar(
                (low + high) / 2, at + side, xerr=(high - low) / 2, fmt="none", ecolor=ink,
                elinewidth=width, capsize=1.5 + width, capthick=width, zorder=3,
            )  # fmt: skip
        official = [np.nan if rates.official is None else rates.official[i] for rates in rows]
        axes.plot(official, at + side, zorder=4, **OFFICIAL)


def _rivals(success: ClassSuccess) -> list[tuple[Solved, dict]]:
    """Returns other learners with their colours and markers in adaptation.png."""
    colors = cycle(COLORS)
    when = moment(success.adaptation.steps[-1])
    kinds = ("", "s", success.others), (" (control)", "^", success.controls)
    found = []
    for kind, marker, learners in kinds:
        for name, solved in learners.items():
            label = f"{look.name(name)}{kind}, {when}"
            line = {"label": label, "color": next(colors), "marker": marker, **MARKER}
            found.append((solved, line))
    return found


def _floor(axes: Axes, classes: int) -> None:
    """Draws the line of one solved class, beside the bars of all classes only."""
    axes.vlines(1 / classes, -0.9, 0.8, color=look.GREY, linestyle="--", linewidth=1.2, zorder=2)
    axes.annotate(
        f"one trivial class alone gives {100 / classes:.3g}%", (1 / classes, -0.9),
        xytext=(4, -3), textcoords="offset points", va="top", fontsize=9, color=look.GREY,
    )  # fmt: skip


def _title(success: ClassSuccess) -> str:
    classes, goals, found = len(success.goals), sum(success.goals.values()), success.adaptation
    many = f"{classes} {found.split} class{'es' if classes > 1 else ''}"
    where = f"{look.titled(found.agent)} on {look.titled(found.env)}"
    goal = f"{goals} goal{'s' if goals > 1 else ''} in all"
    apart = aside(found.split, look.titled(found.learned))
    return "\n".join([f"{where}: {many}, {goal}", *(["; ".join(apart)] if apart else [])])


def _legend(figure: Figure, success: ClassSuccess, rivals: Sequence[dict]) -> None:
    found = success.adaptation
    handles: list[Line2D | Patch] = [
        Patch(color=color, label=f"{look.name(found.agent)}, {moment(found.steps[i])}")
        for i, color in zip(success.points, TONES, strict=False)
    ]
    handles += [Line2D([], [], **line) for line in rivals]
    interval = "95% interval over goals"
    if 1 in success.goals.values():
        interval += ",\nnone over a single one"
    handles.append(Line2D([], [], color=look.INK, linewidth=1.2, label=interval))
    if success.solved.overall.official is not None:
        label = "metaworld's official count:\nthe first episodes of a class to end"
        handles.append(Line2D([], [], label=label, **OFFICIAL))
    figure.legend(handles=handles, loc="outside right upper", fontsize=10)
