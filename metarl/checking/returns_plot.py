"""Plots the returns of random actions by task, to show how the tasks differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from metarl.runs import plot_style as look

PALE = "#DCEBF5"


def returns_figure(returns: np.ndarray, labels: Sequence[str], title: str) -> Figure:
    """Draws each task's episodes, median and quartiles, with the highest median on top.

    Args:
        returns: [K, E].
        labels: K names of tasks.
    """
    order = np.argsort(np.median(returns, axis=1), kind="stable")
    low, median, high = np.quantile(returns[order], [0.25, 0.5, 0.75], axis=1)
    row = np.arange(len(labels))
    # Dots are spread over the bar's height, so that equal returns can be told apart.
    dots = row[:, None] + np.linspace(-0.22, 0.22, returns.shape[1])
    with look.titled_figure(9.0, 1.5 + 0.36 * max(4, len(labels)), title) as figure:
        axes = figure.add_subplot()
        axes.barh(row, high - low, left=low, height=0.62, color=PALE, edgecolor=look.BLUE)
        axes.vlines(median, row - 0.31, row + 0.31, color=look.VERMILION, linewidth=2)
        axes.scatter(returns[order], dots, s=12, color=look.INK, alpha=0.5, linewidths=0, zorder=3)
        axes.set_yticks(row, np.array(labels)[order].tolist())
        axes.set_ylim(-0.6, len(labels) - 0.4)
        axes.margins(x=0.04)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("return of random actions")
    return figure
