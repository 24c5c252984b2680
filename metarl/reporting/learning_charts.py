"""Charts of a run's training: learning curves and diagnostics, from the rows of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from metarl.reporting import ticks
from metarl.reporting.legend import legend
from metarl.reporting.svg import Chart, Line, Scale, figure
from metarl.runs.class_success import moment
from metarl.runs.metrics import by_step, columns, smooth
from metarl.runs.progress import short

POINTS = 240
"""Points of a line; a longer series is drawn as the lowest and the highest value of each part."""
MOST_STEPS = 7
"""Adaptation steps with a line of their own; of more steps, evenly spaced ones."""
MOST_OTHERS = 12
"""Charts of metrics that metarl has no name for, such as those of a user's own agent."""
MOST_CONSTANTS = 40
"""Metrics that are listed because they never changed."""

CURVES: dict[str, tuple[str, str, Scale]] = {
    "return": ("Return", "mean undiscounted return", "linear"),
    "success": ("Success", "episodes solved", "share"),
    "loss": ("Loss", "mean query loss", "errors"),
    "accuracy": ("Accuracy", "query examples classified correctly", "share"),
}
"""Metrics with a value for each adaptation step: title, unit, scale."""
DIAGNOSTICS: dict[str, tuple[str, str, Scale]] = {
    "kl": ("KL divergence", "of the meta-update, nats", "from zero"),
    "inner_kl": ("KL divergence of adaptation", "nats", "from zero"),
    "line_search/accepted": ("Line search accepted", "1 if a step was taken", "share"),
    "line_search/backtracks": ("Line search", "backtracks", "from zero"),
    "cg/residual": ("Conjugate gradient", "residual", "errors"),
    "cg/products": ("Conjugate gradient", "products", "from zero"),
    "surrogate/after": ("Surrogate gain", "after the meta-update", "linear"),
    "gradient_norm": ("Gradient", "norm", "errors"),
    "clip_fraction": ("Clipped ratios", "share of samples", "from zero"),
    "entropy": ("Entropy", "of the policy, nats", "linear"),
    "value/explained_variance": ("Value function", "explained variance", "linear"),
    "value/loss": ("Value function", "loss", "errors"),
    "reptile/distance": ("Reptile", "distance moved", "from zero"),
    "skipped": ("Skipped updates", "per iteration", "from zero"),
    "resampled": ("Iterations drawn again", "per iteration", "from zero"),
}
"""Metrics with one value: title, unit, scale."""
TIMES = {"time/sampling_s": "sampling", "time/update_s": "update"}
NO_METRICS = {"iteration", "env_steps", "tasks", "wall_s", *TIMES}
"""Keys of a row that are drawn otherwise, or that others are drawn against."""


class Learning(NamedTuple):
    """Charts of a run's training, ready for the page."""

    curves: list[Markup]
    legend: Markup
    diagnostics: list[Markup]
    constants: list[tuple[str, str]]
    """Metrics that had one value throughout, which needs no chart."""
    time: str
    """Sentence about where the time went; empty if it was not recorded."""


class _Axis(NamedTuple):
    """A choice of the x axis."""

    at: np.ndarray  # [iterations]
    label: str
    texts: ticks.Texts


def learning(rows: Sequence[Mapping[str, float]]) -> Learning:
    """Draws the rows of metrics.jsonl, at least one."""
    table = columns(rows)
    axes = axes_of(table)
    curves, steps = [], []
    for name, (title, unit, scale) in CURVES.items():
        if values := by_step(table, name):
            steps = steps or shown_steps(len(values))
            curves += [_curves(title, unit, scale, values, axis) for axis in axes]
    charts, constants = [], []
    for chart in _diagnostics(table, axes[0]):
        (charts if isinstance(chart, Chart) else constants).append(chart)
    key = legend([(moment(step), shade(i, len(steps)), "") for i, step in enumerate(steps)])
    time = _time(table)
    return Learning(
        curves, key if len(steps) > 1 else Markup(), [figure(chart) for chart in charts],
        constants[:MOST_CONSTANTS], time,
    )  # fmt: skip


def axes_of(table: Mapping[str, np.ndarray]) -> list[_Axis]:
    """Returns what the curves are drawn against: experience, then wall-clock time if known."""
    axes = [_Axis(table["iteration"], "iterations", ticks.counts)]
    for name, label in (("env_steps", "environment steps"), ("tasks", "tasks learned from")):
        if name in table:
            axes = [_Axis(table[name], label, ticks.counts)]
    if "wall_s" in table:
        at = ticks.drawable(table["wall_s"])
        unit, label = ticks.time_unit(float(np.nanmax(at, initial=0.0)))
        axes.append(_Axis(at / unit, f"wall-clock time, {label}", ticks.numbers))
    return axes


def shown_steps(count: int) -> list[int]:
    """Returns the adaptation steps that have lines, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, MOST_STEPS)).astype(int)).tolist()


def shade(place: int, count: int) -> str:
    """Returns the class of the colour of an adaptation step, from before adaptation to the last."""
    if count <= 2:
        return ("c4", "c0")[place] if count == 2 else "c0"
    return f"v{round(place * (MOST_STEPS - 1) / (count - 1))}"


def _curves(
    title: str, unit: str, scale: Scale, values: Sequence[np.ndarray], axis: _Axis
) -> Markup:
    steps = shown_steps(len(values))
    lines = [
        line
        for i, step in enumerate(steps)
        for line in _lines(axis.at, values[step], shade(i, len(steps)))
    ]
    return figure(Chart(title, axis.label, lines, unit, scale, axis.texts))


def _lines(at: np.ndarray, values: np.ndarray, look: str) -> list[Line]:
    """Returns the values as a faint line and their centred moving average as a bold one."""
    values = ticks.drawable(values)
    if len(values) == 1:
        return [Line(at, values, look, mark="circle")]
    mean = smooth(values, max(1, len(values) // 30))
    middle = _parts(len(values))
    return [
        Line(*_spread(at, values), f"{look} faint", needed=False),
        Line(at[middle], mean[middle], look),
    ]


def _parts(count: int) -> np.ndarray:
    """Returns the indices of at most `POINTS` evenly spaced values, with both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, POINTS)).round().astype(int))


def _spread(at: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a series of at most about 2 `POINTS` values, which has the extremes of the whole."""
    if len(values) <= POINTS:
        return at, values
    xs, ys = [], []
    for part in np.array_split(np.arange(len(values)), POINTS):
        if (known := values[part][np.isfinite(values[part])]).size:
            xs += [at[part[0]], at[part[0]]]
            ys += [known.min(), known.max()]
    return np.array(xs, float), np.array(ys, float)


def _diagnostics(table: Mapping[str, np.ndarray], axis: _Axis) -> list[Chart | tuple[str, str]]:
    """Returns a chart of each metric, or its name and value where that never changed."""
    found: list[Chart | tuple[str, str]] = []
    for name in ("return", "success", "loss", "accuracy"):
        values = by_step(table, name)
        if len(values) > 1 and name in ("return", "loss"):
            better, sign = ("gain in return", 1) if name == "return" else ("fall of the loss", -1)
            gap = sign * (values[-1] - values[0])
            lines = _lines(axis.at, gap, "c2")
            title = "Gap between before and after adaptation"
            found.append(Chart(title, axis.label, lines, better, "from zero", axis.texts))
    for name, (title, unit, scale) in DIAGNOSTICS.items():
        if name in table:
            found.append(_one(name, title, unit, scale, table[name], axis))
    found += _time_chart(table, axis)
    stepwise = tuple(f"{name}/step" for name in CURVES)
    known = {*DIAGNOSTICS, *NO_METRICS, "surrogate/before"}
    others = [name for name in table if name not in known and not name.startswith(stepwise)]
    found += [_one(name, name, "", "linear", table[name], axis) for name in others[:MOST_OTHERS]]
    return found


def _one(
    name: str, title: str, unit: str, scale: Scale, values: np.ndarray, axis: _Axis
) -> Chart | tuple[str, str]:
    known = values[np.isfinite(values)]
    if not known.size:
        return (name, "never finite")
    if known.size == len(values) > 1 and (known == known[0]).all():
        return (name, f"{known[0]:g}")
    return Chart(title, axis.label, _lines(axis.at, values, "c0"), unit, scale, axis.texts)


def _time_chart(table: Mapping[str, np.ndarray], axis: _Axis) -> list[Chart]:
    looks = {"time/sampling_s": "c4", "time/update_s": "c0"}
    lines = [
        line
        for name, look in looks.items()
        if name in table
        for line in _lines(axis.at, table[name], look)
    ]
    key = legend([(said, looks[name], "") for name, said in TIMES.items() if name in table])
    chart = Chart(
        "Time of an iteration", axis.label, lines, "seconds", "from zero", axis.texts, key=key
    )
    return [chart] if lines else []


def _time(table: Mapping[str, np.ndarray]) -> str:
    """Returns a sentence about where the time of the shown iterations went."""
    totals = {
        said: float(np.nansum(ticks.drawable(table[name])))
        for name, said in TIMES.items()
        if name in table
    }
    whole = sum(totals.values())
    if not whole > 0:
        return ""
    shares = ", ".join(f"{said} {each / whole:.0%}" for said, each in totals.items())
    speed = ""
    if "env_steps" in table and "wall_s" in table and table["wall_s"][-1] > 0:
        per_s = table["env_steps"][-1] / table["wall_s"][-1]
        speed = f" The run made {short(per_s)} environment steps a second."
    return f"Time of the iterations: {shares}.{speed}"
