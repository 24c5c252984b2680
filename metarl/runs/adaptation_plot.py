"""adaptation.png: how returns grow with adaptation, and what the environment was asked for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from metarl.runs import plot_style as look
from metarl.runs.adaptation import Adaptation
from metarl.runs.comparison import Curve, Kind, Published, curves
from metarl.runs.statistics import Summary

OTHERS = (look.VERMILION, look.GREEN, look.PURPLE, look.ORANGE, look.SKY)
"""Colours of other runs and controls, in their order."""
PUBLISHED = ((":", "D"), ("-.", "s"), ("--", "^"))
"""Dashes and markers of published curves."""


def adaptation_figure(
    adaptation: Adaptation,
    others: Mapping[str, Adaptation] | None = None,
    published: Published | None = None,
) -> Figure:
    """Mean return against adaptation steps and against environment steps; success if defined.

    Bands are 95% bootstrap intervals over tasks, bars published standard errors, faint lines
    the run's own tasks.
    """
    found = curves(adaptation, others, published)
    solved = any(curve.success for curve in found)
    panels = 3 if solved else 2
    with look.style():
        figure = Figure(figsize=(4.6 * panels + 3.0, 4.9), layout="constrained")
        first = figure.add_subplot(1, panels, 1)
        _returns(first, adaptation, found, against_env_steps=False)
        first.set_ylabel("mean undiscounted return")
        second = figure.add_subplot(1, panels, 2, sharey=first)
        _returns(second, adaptation, found, against_env_steps=True)
        if solved:
            _success(figure.add_subplot(1, panels, 3), found)
        _title(figure, adaptation)
        _legend(figure, found, published)
    return figure


def _returns(
    axes: Axes, adaptation: Adaptation, found: Sequence[Curve], against_env_steps: bool
) -> None:
    at = adaptation.env_steps if against_env_steps else adaptation.steps
    by_task = adaptation.outcome.returns.mean(axis=-1)
    axes.plot(at, by_task.T, color=look.BLUE, alpha=0.13, linewidth=0.8, zorder=1)
    for number, curve in enumerate(found):
        _draw(axes, curve, number, curve.returns, against_env_steps)
    axes.set_ylim(*_limits(by_task, found))
    if against_env_steps:
        axes.set_title("return by environment steps")
        axes.set_xlabel("environment steps used in one task")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        look.count_axis(axes)
    else:
        axes.set_title("return by adaptation steps")
        _step_axis(axes)


def _step_axis(axes: Axes) -> None:
    axes.set_xlabel("adaptation steps")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _success(axes: Axes, found: Sequence[Curve]) -> None:
    for number, curve in enumerate(found):
        if curve.success:
            _draw(axes, curve, number, curve.success, against_env_steps=False)
    _step_axis(axes)
    axes.set_title("episodes solved by adaptation steps")
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _draw(
    axes: Axes, curve: Curve, number: int, figures: Summary, against_env_steps: bool
) -> None:
    """One curve; published ones have no environment steps, an oracle is a level everywhere."""
    line = _line(curve, number)
    if curve.kind is Kind.ORACLE:
        axes.axhline(figures.mean[0], color=line["color"], linestyle=line["linestyle"], linewidth=1.4)
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


def _line(curve: Curve, number: int) -> dict:
    """Colour, dash and marker: the kind shows without colour too. `number` counts all curves."""
    color = OTHERS[(number - 1) % len(OTHERS)]
    match curve.kind:
        case Kind.RUN:
            return {"color": look.BLUE, "linestyle": "-", "marker": "o", "linewidth": 2.6}
        case Kind.OTHER:
            return {"color": color, "linestyle": "-", "marker": "s", "markersize": 5}
        case Kind.CONTROL:
            return {"color": color, "linestyle": "--", "marker": "^", "markersize": 6}
        case Kind.PUBLISHED:
            dash, marker = PUBLISHED[number % len(PUBLISHED)]
            ink = {"color": look.INK, "linewidth": 1.2, "markerfacecolor": "white"}
            return {"linestyle": dash, "marker": marker, "markersize": 6, **ink}
        case Kind.ORACLE:
            return {"color": look.GREY, "linestyle": (0, (8, 3)), "linewidth": 1.4}


def _limits(by_task: np.ndarray, found: Sequence[Curve]) -> tuple[float, float]:
    """From what is read off the plot, and nine tenths of the tasks: one strange task may leave."""
    ends = [np.quantile(by_task, [0.05, 0.95], axis=0).ravel()]
    for curve in found:
        error = np.nan_to_num(curve.returns.stderr)
        ends += [curve.returns.mean - error, curve.returns.mean + error, curve.returns.ci95.ravel()]
    every = np.concatenate(ends)
    low, high = np.nanmin(every), np.nanmax(every)
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def _title(figure: Figure, adaptation: Adaptation) -> None:
    tasks, _, episodes = adaptation.outcome.returns.shape
    figure.suptitle(
        f"{adaptation.agent} on {adaptation.env}: {tasks} {adaptation.split} tasks, "
        f"{episodes} episodes at each step",
        x=0.01, ha="left", fontsize=13, color=look.INK,
    )  # fmt: skip


def _legend(figure: Figure, found: Sequence[Curve], published: Published | None) -> None:
    """Outside the data, curves of a kind under one heading."""
    handles: list[Line2D | Patch] = []
    for kind in Kind:
        for number, curve in enumerate(found):
            if curve.kind is kind:
                handles.append(Line2D([], [], label=_label(curve), **_line(curve, number)))
    handles.append(Line2D([], [], color=look.BLUE, alpha=0.3, linewidth=0.8, label="its single tasks"))
    handles.append(Patch(color=look.GREY, alpha=0.3, linewidth=0, label="95% interval over tasks"))
    figure.legend(handles=handles, loc="outside right center", fontsize=10, handlelength=2.8)
    if published:
        figure.supxlabel(
            f"Published: {published.source}; bars are standard errors over tasks.",
            x=0.01, ha="left", fontsize=9, color=look.GREY,
        )  # fmt: skip


def _label(curve: Curve) -> str:
    match curve.kind:
        case Kind.RUN | Kind.OTHER:
            return curve.name
        case Kind.CONTROL:
            return f"{curve.name} (control)"
        case Kind.PUBLISHED | Kind.ORACLE:
            return f"{curve.name} (published)"
