"""Draws adaptation.png: the gain by adaptation, and the environment steps that it costs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from metarl.runs import plot_style as look
from metarl.runs.adaptation import Adaptation, aside
from metarl.runs.comparison import Curve, Kind, curves
from metarl.runs.measures import Measure
from metarl.runs.published import Published
from metarl.runs.statistics import Summary

COLORS = (look.VERMILION, look.GREEN, look.PURPLE, look.ORANGE, look.SKY)
"""Colours of other runs and controls, in their order."""
PUBLISHED = ((":", "D"), ("-.", "s"), ("--", "^"))
"""Dashes and markers of published curves."""
FEW_SHOT_TASKS = 60
"""Number of few-shot tasks drawn as single lines; an evaluation has hundreds."""
MOST_TASKS = 500
"""Number of other tasks drawn as single lines."""
MOST_CURVES = 24
"""Number of curves that are drawn; the others are in the table."""

Lines = Sequence[tuple[Curve, dict]]
"""Curves, each with its matplotlib line properties."""


def adaptation_figure(
    adaptation: Adaptation,
    published: Published | None = None,
) -> Figure:
    """Draws the mean return against adaptation steps and environment steps, and success if defined.

    For a few-shot learner it draws the measure against adaptation steps alone. Bands are 95%
    bootstrap intervals over tasks, bars published standard errors, faint lines the run's tasks.
    """
    measure = adaptation.measure
    found = curves(adaptation, published)
    lines = list(zip(found, _styles(found), strict=True))[:MOST_CURVES]
    solved = any(curve.success for curve in found)
    panels = 1 + measure.of_episodes + solved
    with look.titled_figure(4.6 * panels + 3.0, 4.9, _title(adaptation)) as figure:
        first = figure.add_subplot(1, panels, 1)
        _values(first, adaptation, lines, against_env_steps=False)
        first.set_ylabel(measure.label)
        if measure.of_episodes:
            second = figure.add_subplot(1, panels, 2, sharey=first)
            _values(second, adaptation, lines, against_env_steps=True)
        if solved:
            _success(figure.add_subplot(1, panels, 3), lines)
        _legend(figure, adaptation, lines, published)
    return figure


def _values(axes: Axes, adaptation: Adaptation, lines: Lines, against_env_steps: bool) -> None:
    at = adaptation.env_steps if against_env_steps else adaptation.steps
    by_task = look.drawable(adaptation.outcome.values).mean(axis=-1)
    some = by_task[: _drawn(adaptation)]
    axes.plot(at, some.T, color=look.BLUE, alpha=0.13, linewidth=0.8, zorder=1)
    for curve, line in lines:
        _draw(axes, curve, line, curve.figures, against_env_steps)
    _scale(axes, adaptation.measure, _ends(by_task, [curve for curve, _ in lines]))
    if against_env_steps:
        axes.set_title("return by environment steps")
        axes.set_xlabel("environment steps used in one task")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        look.count_axis(axes)
    else:
        axes.set_title(f"{adaptation.measure.name} by adaptation steps")
        _step_axis(axes)


def _drawn(adaptation: Adaptation) -> int:
    """Returns the number of tasks drawn as single lines."""
    tasks = len(adaptation.tasks)
    return min(tasks, MOST_TASKS if adaptation.measure.of_episodes else FEW_SHOT_TASKS)


def _step_axis(axes: Axes) -> None:
    axes.set_xlabel("adaptation steps")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _success(axes: Axes, lines: Lines) -> None:
    for curve, line in lines:
        if curve.success:
            _draw(axes, curve, line, curve.success, against_env_steps=False)
    _step_axis(axes)
    axes.set_title("episodes solved by adaptation steps")
    look.share_axis(axes)


def _draw(axes: Axes, curve: Curve, line: dict, figures: Summary, against_env_steps: bool) -> None:
    """Draws one curve; an oracle is a level, and published curves have no environment steps."""
    figures = Summary(*map(look.drawable, figures))
    if curve.kind is Kind.ORACLE:
        axes.axhline(figures.mean[0], **line)
        return
    at = curve.env_steps if against_env_steps else curve.steps
    if at is None:
        return
    axes.plot(at, figures.mean, zorder=3 if curve.kind is not Kind.RUN else 4, **line)
    if curve.kind is Kind.PUBLISHED:
        axes.errorbar(
            at, figures.mean, figures.stderr, fmt="none", color=line["color"], capsize=3, zorder=3
        )
    else:
        low, high = figures.ci95.T
        axes.fill_between(at, low, high, color=line["color"], alpha=0.18, linewidth=0, zorder=2)


def _styles(found: Sequence[Curve]) -> list[dict]:
    """Returns colour, dash and marker of each curve; dash and marker alone show its kind."""
    colors, published = cycle(COLORS), cycle(PUBLISHED)

    def style(kind: Kind) -> dict:
        match kind:
            case Kind.RUN:
                return {"color": look.BLUE, "linestyle": "-", "marker": "o", "linewidth": 2.6}
            case Kind.OTHER:
                return {"color": next(colors), "linestyle": "-", "marker": "s", "markersize": 5}
            case Kind.CONTROL:
                return {"color": next(colors), "linestyle": "--", "marker": "^", "markersize": 6}
            case Kind.PUBLISHED:
                dash, marker = next(published)
                ink = {"color": look.INK, "linewidth": 1.2, "markerfacecolor": "white"}
                return {"linestyle": dash, "marker": marker, "markersize": 6, **ink}
            case Kind.ORACLE:
                return {"color": look.GREY, "linestyle": (0, (8, 3)), "linewidth": 1.4}

    return [style(curve.kind) for curve in found]


def _ends(by_task: np.ndarray, found: Sequence[Curve]) -> np.ndarray:
    """Returns values that must be visible: all curves with errors, and 90% of the tasks."""
    ends = [np.quantile(by_task, [0.05, 0.95], axis=0).ravel()]
    for curve in found:
        mean, stderr, _, interval = map(look.drawable, curve.figures)
        error = np.nan_to_num(stderr)
        interval = np.where(np.isfinite(interval), interval, mean[:, None])
        ends += [mean - error, mean + error, interval.ravel()]
    return np.concatenate(ends)


def _scale(axes: Axes, measure: Measure, ends: np.ndarray) -> None:
    if measure.share:
        look.share_axis(axes)
    elif measure.lower_is_better:
        look.error_axis(axes, ends)
    elif (seen := ends[np.isfinite(ends)]).size:
        low, high = seen.min(), seen.max()
        margin = 0.05 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)


def _title(adaptation: Adaptation) -> str:
    tasks, _, episodes = adaptation.outcome.values.shape
    each = f"{episodes} episodes{' by the mode' if adaptation.by_mode else ''} at each step"
    if not adaptation.measure.of_episodes:
        each = f"{adaptation.env_steps[-1]:g} examples in each"
    where = f"{look.titled(adaptation.agent)} on {look.titled(adaptation.env)}"
    many = f"{tasks} {adaptation.split} task{'s' if tasks != 1 else ''}"
    apart = aside(adaptation.split, look.titled(adaptation.learned))
    return "\n".join([f"{where}: {many}, {each}", *(["; ".join(apart)] if apart else [])])


def _legend(
    figure: Figure, adaptation: Adaptation, lines: Lines, published: Published | None
) -> None:
    """Puts the legend outside the axes, in the order of the table."""
    handles: list[Line2D | Patch] = [
        Line2D([], [], label=_label(curve), **line) for curve, line in lines
    ]
    drawn = _drawn(adaptation)
    each = "its tasks, one by one" if drawn == len(adaptation.tasks) else f"{drawn} of its tasks"
    handles.append(Line2D([], [], color=look.BLUE, alpha=0.3, linewidth=0.8, label=each))
    if len(adaptation.tasks) > 1:
        label, alpha = "95% interval over tasks", 0.3
    else:
        label, alpha = "no interval: a single task", 0.0
    handles.append(Patch(color=look.GREY, alpha=alpha, linewidth=0, label=label))
    figure.legend(handles=handles, loc="outside right center", fontsize=10, handlelength=2.8)
    if published:
        figure.supxlabel(published.credit, x=0.01, ha="left", fontsize=9, color=look.GREY)


def _label(curve: Curve) -> str:
    if curve.kind in (Kind.RUN, Kind.OTHER):
        return look.name(curve.name)
    return f"{look.name(curve.name)} ({curve.origin or curve.kind.value})"
