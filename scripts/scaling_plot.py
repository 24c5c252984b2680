"""The picture of bench_scaling.py: what was measured, and what the model predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter
from scaling_model import Measured, sampling_model, speedup

from metarl.runs.plot_style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, titled_figure

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
MARKERS = "osD^vP"


def scaling_figure(found: Mapping[str, Sequence[Measured]], many: Sequence[int]) -> Figure:
    """Returns the measured speed-ups above, and below them those that the model predicts."""
    points = next(iter(found.values()))
    first, last = points[0].workers, points[-1].workers
    with titled_figure(
        10, 8.5, "How sampling and updates scale with the number of cores"
    ) as figure:
        (sampling, update), (same, larger) = figure.subplots(2, 2)
        for axes, title in ((sampling, "Sampling, measured"), (update, "Update, measured")):
            measured_axes(axes, title, [x.workers for x in points])
        for axes, title in (
            (same, "Sampling, predicted: the same batch"),
            (larger, "Sampling, predicted: tasks grow with cores"),
        ):
            predicted_axes(axes, title, last, many[-1])
        for (case, each), colour, marker in zip(found.items(), COLOURS, MARKERS, strict=False):
            measured_lines(sampling, [x.sampling_s for x in each], each, colour, marker, case)
            measured_lines(update, [x.update_s for x in each], each, colour, marker, case)
            predicted_lines(same, larger, each, many[-1], colour)
        handles, labels = sampling.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        for axes in (sampling, update):
            axes.set_ylabel(f"times as fast as {_workers(first)}")
        for axes in (same, larger):
            axes.set_ylabel(f"tasks/s, times those of {_workers(last)}")
    return figure


def measured_axes(axes: Axes, title: str, counts: Sequence[int]) -> None:
    axes.set_title(title)
    axes.set_xlabel("workers, threads and cores")
    axes.plot(
        counts, [n / counts[0] for n in counts], "--", color=GREY, lw=1, label="in proportion"
    )
    _logarithmic(axes, counts)


def predicted_axes(axes: Axes, title: str, last: int, most: int) -> None:
    axes.set_title(title)
    axes.set_xlabel("cores")
    axes.plot([last, most], [1, most / last], "--", color=GREY, lw=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def measured_lines(
    axes: Axes,
    seconds: Sequence[Sequence[float]],
    points: Sequence[Measured],
    colour: str,
    marker: str,
    label: str,
) -> None:
    """Draws the median ratio of a turn; bars show the range of the turns."""
    turns = [speedup(seconds[0], x) for x in seconds]
    times = np.array([np.median(x) for x in turns])
    below = times - [min(x) for x in turns]
    above = [max(x) for x in turns] - times
    axes.errorbar(
        [x.workers for x in points], times, [below, above], color=colour, marker=marker,
        markersize=5, elinewidth=1, label=label,
    )  # fmt: skip


def predicted_lines(
    same: Axes, larger: Axes, points: Sequence[Measured], most: int, colour: str
) -> None:
    model, last = sampling_model(points), points[-1].workers
    counts = np.unique(np.geomspace(last, most, 200).astype(int))
    now = model.seconds(last)
    same.plot(counts, [now / model.seconds(n) for n in counts], color=colour)
    grown = [n / last * now / model.seconds(n, n / last) for n in counts]
    larger.plot(counts, grown, color=colour)


def _logarithmic(axes: Axes, counts: Sequence[int]) -> None:
    """Sets axes whose ticks are the numbers of workers and the same multiples."""
    times = [n / counts[0] for n in counts]
    for axis, scale, ticks in (
        (axes.xaxis, axes.set_xscale, counts),
        (axes.yaxis, axes.set_yscale, times),
    ):
        scale("log")
        axis.set_major_locator(NullLocator())
        axis.set_minor_locator(NullLocator())
        axis.set_ticks(ticks, [f"{x:g}" for x in ticks])


def _workers(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"
