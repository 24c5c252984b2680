"""predictions.png: what a few-shot learner makes of some tasks from numbers to numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metarl.runs import plot_style as look
from metarl.runs.class_success import moment

ROOM = 0.6
"""Above and below what is true, as a share of its height; predictions beyond it are cut off."""
BETWEEN = (look.ORANGE, look.GREEN, look.PURPLE)
"""Colours of steps between the first and the last."""


class Panel(NamedTuple):
    """One task, from one number to another."""

    title: str
    xs: np.ndarray  # [M] ascending
    truth: np.ndarray  # [M]
    support_x: np.ndarray  # [N] what was learned from
    support_y: np.ndarray  # [N]
    predictions: np.ndarray  # [S, M] after each of the shown steps


def predictions_figure(panels: Sequence[Panel], steps: Sequence[int], title: str = "") -> Figure:
    """A row of tasks: the truth, the support, and predictions before and after adaptation.

    Args:
        panels: at least one; four are read with ease.
        steps: [S] adaptation steps behind the predictions, ascending, e.g. 0, 1 and 10.
    """
    with look.style():
        figure = Figure(figsize=(1.2 + 3.2 * len(panels), 4.2), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, color=look.INK)
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(row, panels, strict=True):
            _panel(axes, panel, steps)
        row[0].set_ylabel("target")
        handles, labels = row[0].get_legend_handles_labels()
        columns = min(len(labels), 1 + len(panels))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    return figure


def _panel(axes: Axes, panel: Panel, steps: Sequence[int]) -> None:
    # Above the predictions: where they are right, it still shows.
    axes.plot(panel.xs, panel.truth, color=look.INK, linewidth=1.1, label="truth", zorder=5)
    axes.scatter(
        panel.support_x, panel.support_y,
        s=42, color=look.INK, edgecolor="white", label="learned from", zorder=6,
    )  # fmt: skip
    for step, values, line in zip(steps, panel.predictions, _lines(steps), strict=True):
        axes.plot(panel.xs, values, label=moment(step), zorder=4, **line)
    axes.set_title(panel.title)
    axes.set_xlabel("input")
    axes.set_ylim(*_limits(panel))


def _lines(steps: Sequence[int]) -> list[dict]:
    """Before adaptation dashed; what came last boldest."""
    colors = cycle(BETWEEN)
    lines = []
    for step in steps:
        if step == 0:
            lines.append({"color": look.GREY, "linewidth": 1.6, "linestyle": "--"})
        elif step == steps[-1]:
            lines.append({"color": look.BLUE, "linewidth": 2.8})
        else:
            lines.append({"color": next(colors), "linewidth": 1.6})
    return lines


def _limits(panel: Panel) -> tuple[float, float]:
    """Each task's own, for their sizes differ: all that is true, and predictions that are near."""
    true = np.concatenate([panel.truth, panel.support_y])
    room = ROOM * (true.max() - true.min()) or 1.0
    near = np.clip(panel.predictions, true.min() - room, true.max() + room)
    seen = np.concatenate([true, near.ravel()])
    low, high = np.nanmin(seen), np.nanmax(seen)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin
