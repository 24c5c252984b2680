"""Draws training.png, a run's metrics during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from metarl.runs import plot_style as look
from metarl.runs.class_success import moment
from metarl.runs.metrics import by_step, columns, smooth

ROWS = (("return", "success"), ("kl", "line_search/backtracks"))
"""Rows of panels; a missing metric's panel leaves its space to its neighbour."""
STEPS = 24
"""Adaptation steps that a panel shows; of more steps, evenly spaced ones."""
FEW_SHOT_ROWS = (("loss", "accuracy", "gradient_norm"),)
LABELS = {
    "return": ("return", "mean undiscounted return"),
    "success": ("success", "episodes solved"),
    "kl": ("KL divergence of the meta-update", "nats"),
    "line_search/backtracks": ("line search", "backtracks"),
    "loss": ("loss", "mean query loss"),
    "accuracy": ("accuracy", "query examples classified correctly"),
    "gradient_norm": ("gradient of the meta-update", "norm"),
}
"""Metric -> title and axis label; all adaptation steps of a metric share a panel."""


def training_figure(rows: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Draws return and success per adaptation step, KL and backtracks against environment steps.

    For a few-shot run it draws loss and accuracy per step and the gradient's norm against tasks.
    Bold lines are centred moving averages over 1/30 of the run, faint lines the values.

    Args:
        rows: rows of metrics.jsonl, at least one.
    """
    table = {name: look.drawable(values) for name, values in columns(rows).items()}
    few_shot = "tasks" in table
    at = table.get("tasks" if few_shot else "env_steps", table["iteration"])
    wanted = FEW_SHOT_ROWS if few_shot else ROWS
    panels = [[(name, lines) for name in row if (lines := _lines(table, name))] for row in wanted]
    panels = [row for row in panels if row] or [[("kl", {"": np.full(len(rows), np.nan)})]]
    columns_of_panels = max(2, *map(len, panels))
    with look.titled_figure(12, 0.6 + 3.7 * len(panels), title) as figure:
        grid = figure.add_gridspec(max(1, len(panels)), columns_of_panels)
        for place, row in enumerate(panels):
            for side, (name, lines) in enumerate(row):
                axes = figure.add_subplot(grid[place, side] if len(row) > 1 else grid[place, :])
                _panel(axes, name, at, lines)
                axes.set_xlabel("tasks learned from" if few_shot else "environment steps")
        if panels:
            _legend(figure)
    return figure


def _lines(table: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Returns a panel's lines by label: one per adaptation step, or a single one."""
    if name in table:
        return {"": table[name]}
    values = by_step(table, name)
    some = np.unique(np.linspace(0, len(values) - 1, min(len(values), STEPS)).astype(int))
    return {moment(step): values[step] for step in some.tolist()}


def _panel(axes: Axes, name: str, at: np.ndarray, lines: Mapping[str, np.ndarray]) -> None:
    heading, label = LABELS[name]
    axes.set_title(heading)
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    look.count_axis(axes)
    window = max(1, len(at) // 30)
    marker = "o" if len(at) == 1 else None
    for (label, values), color in zip(lines.items(), _shades(len(lines)), strict=True):
        axes.plot(at, values, color=color, alpha=0.22, linewidth=0.9)
        axes.plot(at, smooth(values, window), color=color, label=label, marker=marker)
    _scale(axes, name, np.concatenate(list(lines.values())))


def _legend(figure: Figure) -> None:
    """Adds one legend of the adaptation steps, whose colours are the same in all panels."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside upper right", ncols=min(6, len(labels)))


def _shades(count: int) -> list:
    """Returns colours from light, before adaptation, to dark, for the last step."""
    if count == 1:
        return [look.BLUE]
    if count == 2:
        return [look.ORANGE, look.BLUE]
    return list(matplotlib.colormaps["viridis_r"](np.linspace(0.2, 0.95, count)))


def _scale(axes: Axes, name: str, values: np.ndarray) -> None:
    if name in ("success", "accuracy"):
        look.share_axis(axes)
    elif name == "loss":
        look.error_axis(axes, values)
    elif name != "return":
        axes.set_ylim(bottom=0)
    if name == "line_search/backtracks":
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
