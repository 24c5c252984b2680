"""Charts of the results of single tasks against what tasks differ in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from metarl.reporting import ticks
from metarl.reporting.adaptation_charts import scale_of
from metarl.reporting.legend import legend
from metarl.reporting.svg import Chart, Line, figure
from metarl.runs.adaptation import Adaptation
from metarl.runs.class_success import moment

MOST_CHARTS = 4
"""Parameters that are drawn."""
MOST_TASKS = 400
"""Tasks that are drawn."""
FEWEST = 3
"""Tasks from which on there is a chart."""
SHADES = 7
"""Colours of a map, from the worst to the best tasks."""


def task_charts(adaptation: Adaptation) -> list[Markup]:
    """Draws results before and after adaptation against each parameter that is a number, and a map
    of each that is a place in the plane."""
    tasks = adaptation.tasks[:MOST_TASKS]
    if len(tasks) < FEWEST or "class" in tasks[0]:  # a goal's number within its class says nothing
        return []
    with np.errstate(all="ignore"):
        values = ticks.drawable(adaptation.outcome.values[:MOST_TASKS, [0, -1]]).mean(axis=-1)
    charts = []
    for name in tasks[0]:
        found = _numbers([task.get(name) for task in tasks])
        if found is None or len(np.unique(found, axis=0)) < FEWEST:
            continue
        draw = _map if found.shape[1] == 2 else _scatter
        charts.append(figure(draw(adaptation, name, found, values)))
        if len(charts) == MOST_CHARTS:
            break
    return charts


def _numbers(given: Sequence[Any]) -> np.ndarray | None:
    """Returns the values of a parameter, [K, 1] or [K, 2]; None if they are anything else."""
    rows = [value if isinstance(value, list) else [value] for value in given]
    sizes = {len(row) for row in rows}
    plain = all(type(x) in (int, float) and abs(x) < ticks.LARGEST for row in rows for x in row)
    return np.array(rows, float) if plain and sizes in ({1}, {2}) else None


def _scatter(adaptation: Adaptation, name: str, at: np.ndarray, values: np.ndarray) -> Chart:
    measure, last = adaptation.measure, adaptation.steps[-1]
    looks = {0: "c4 bare"} if not last else {0: "c4 bare", last: "c0 bare"}
    lines = [
        Line(at[:, 0], values[:, place], look, mark="circle", notes=_notes(values[:, place]))
        for place, look in zip((0, 1), looks.values(), strict=False)
    ]
    key = legend([(moment(step), look, "circle") for step, look in looks.items()])
    title = f"{measure.name.capitalize()} by {name}"
    return Chart(title, name, lines, "a point for each task", scale_of(measure), key=key)


def _map(adaptation: Adaptation, name: str, at: np.ndarray, values: np.ndarray) -> Chart:
    """Returns the places of tasks, in colours of seven groups by their rank after adaptation."""
    measure, after = adaptation.measure, values[:, 1]
    known = np.flatnonzero(np.isfinite(after))
    order = known[np.argsort(after[known], kind="stable")]
    lines, entries = [], []
    for group, tasks in enumerate(np.array_split(order, min(SHADES, len(order) or 1))):
        if len(tasks):
            look = f"v{group} bare"
            notes = [f"task {task + 1}: {after[task]:.4g}" for task in tasks]
            lines.append(Line(at[tasks, 0], at[tasks, 1], look, mark="circle", notes=notes))
            low, high = (measure.text(float(after[task]), 1) for task in (tasks[0], tasks[-1]))
            entries.append((low if low == high else f"{low} to {high}", look, "circle"))
    title = f"{measure.name.capitalize()} by {name}"
    return Chart(title, f"{name}, first coordinate", lines, "after adaptation", key=legend(entries))


def _notes(values: np.ndarray) -> list[str]:
    return [f"task {k + 1}: {value:.4g}" for k, value in enumerate(values)]
