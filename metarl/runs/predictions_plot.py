"""Draws predictions.png: a few-shot learner's predictions in some one-dimensional tasks."""

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
"""Space above and below the targets, as a share of their range; cuts off far predictions."""
BETWEEN = (look.ORANGE, look.GREEN, look.PURPLE)
"""Colours of steps between the first and the last."""


class Panel(NamedTuple):
    """One task, with a single number as input and as target."""

    title: str
    xs: np.ndarray  # [M] ascending
    truth: np.ndarray  # [M]
    support_x: np.ndarray  # [N] inputs of the support
    support_y: np.ndarray  # [N] targets of the support
    predictions: np.ndarray  # [S, M] after each of the shown steps


def predictions_figure(panels: Sequence[Panel], steps: Sequence[int], title: str = "") -> Figure:
    """Draws a panel per task: the truth, the support, and predictions before and after adaptation.

    Args:
        panels: at least one; four fit well.
        steps: [S] adaptation steps of the predictions, ascending, e.g. 0, 1 and 10.
    """
    with look.titled_figure(1.2 + 3.2 * len(panels), 4.2, title) as figure:
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, panel in zip(row, panels, strict=True):
            _panel(axes, panel, steps)
        row[0].set_ylabel("target")
        handles, labels = row[0].get_legend_handles_labels()
        columns = min(len(labels), 1 + len(panels))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    return figure


def _panel(axes: Axes, panel: Panel, steps: Sequence[int]) -> None:
    # The truth is above the predictions, so that it shows where they agree.
    axes.plot(panel.xs, panel.truth, color=look.INK, linewidth=1.1, label="truth", zorder=5)
    axes.scatter(
        panel.support_x, panel.support_y,
        s=42, color=look.INK, edgecolor="white", label="support", zorder=6,
    )  # fmt: skip
    for step, values, line in zip(steps, panel.predictions, _lines(steps), strict=True):
        axes.plot(panel.xs, values, label=moment(step), zorder=4, **line)
    axes.set_title(panel.title)
    axes.set_xlabel("input")
    axes.set_ylim(*_limits(panel))


def _lines(steps: Sequence[int]) -> list[dict]:
    """Returns line properties by step: dashed before adaptation, boldest for the last step."""
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
    """Returns y limits that show all targets and the predictions near them."""
    targets = np.concatenate([panel.truth, panel.support_y])
    room = ROOM * (targets.max() - targets.min()) or 1.0
    near = np.clip(panel.predictions, targets.min() - room, targets.max() + room)
    seen = np.concatenate([targets, near.ravel()])
    low, high = np.nanmin(seen), np.nanmax(seen)
    margin = 0.06 * (high - low) or 1.0
    return low - margin, high + margin
