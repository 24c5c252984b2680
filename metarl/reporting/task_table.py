"""The table of an evaluation's tasks: their parameters and the result after each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metarl.runs.adaptation import Adaptation

MOST_ROWS = 600
"""Tasks in the table: of more, the best and the worst ones and the first others."""
MOST_PARAMETERS = 8
"""Parameters of tasks with a column of their own."""
MOST_STEPS = 6
"""Adaptation steps with a column; of more, evenly spaced ones."""
MOST_TEXT = 60
"""Characters of a parameter."""
ENDS = 3
"""Tasks at either end that are marked."""


class Row(NamedTuple):
    """One task."""

    task: int
    """Its number, from 1."""
    parameters: list[str]
    values: list[str]
    standing: str
    """"best", "worst" or nothing."""


class TaskTable(NamedTuple):
    """Rows in the order of the tasks."""

    parameters: list[str]
    values: list[str]
    rows: list[Row]
    left_out: int
    ends: int
    """Tasks at either end that are marked."""


def task_table(adaptation: Adaptation) -> TaskTable:
    """Returns a row for each task, with means over its episodes and the gain by adaptation."""
    measure, count = adaptation.measure, len(adaptation.tasks)
    with np.errstate(all="ignore"):
        values = adaptation.outcome.values.mean(axis=-1)  # [K, S]
    names = _parameters(adaptation.tasks)
    steps = _steps(len(adaptation.steps))
    headings = ["before" if step == 0 else f"step {step}" for step in steps]
    columns = [values[:, step] for step in steps]
    if len(steps) > 1:
        sign = -1 if measure.lower_is_better else 1
        headings.append("gain")
        columns.append(sign * (values[:, -1] - values[:, 0]))
    digits = measure.digits(values)
    texts = [[measure.text(float(x), digits) for x in column] for column in columns]
    if (success := adaptation.outcome.success) is not None:
        headings.append("solved after")
        texts.append([f"{rate:.0%}" for rate in success[:, -1].mean(axis=-1)])
    standing, ends = _standing(values[:, -1], measure.lower_is_better)
    others = [k for k in range(count) if k not in standing]
    shown = sorted([*standing, *others[: MOST_ROWS - len(standing)]])
    rows = [
        Row(
            k + 1,
            [_shown(adaptation.tasks[k].get(name, "")) for name in names],
            [column[k] for column in texts],
            standing.get(k, ""),
        )
        for k in shown
    ]
    return TaskTable(names, headings, rows, count - len(rows), ends)


def _steps(count: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(count, MOST_STEPS)).astype(int)).tolist()


def _parameters(tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the names of parameters that get a column."""
    names: dict[str, None] = {}
    for task in tasks[:MOST_ROWS]:
        names.update(dict.fromkeys(list(task)[:MOST_PARAMETERS]))
        if len(names) >= MOST_PARAMETERS:
            break
    return list(names)[:MOST_PARAMETERS]


def _shown(value: Any) -> str:
    """Returns a parameter as short text; numbers have four digits."""
    if isinstance(value, bool) or not isinstance(value, (int, float, list, tuple)):
        text = str(value)
    elif isinstance(value, int):
        text = str(value) if value.bit_length() < 100 else "a huge number"
    elif isinstance(value, float):
        text = f"{value:.4g}"
    else:
        text = ", ".join(_shown(item) for item in value[:8]) + (", ..." if len(value) > 8 else "")
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 3]}..."


def _standing(after: np.ndarray, lower_is_better: bool) -> tuple[dict[int, str], int]:
    """Returns the best and the worst tasks by their value after the last step."""
    known = [k for k in np.argsort(after, kind="stable") if np.isfinite(after[k])]
    if lower_is_better:
        known = known[::-1]
    ends = min(ENDS, len(known) // 3)
    worst, best = known[:ends], known[len(known) - ends :]
    return {int(k): "worst" for k in worst} | {int(k): "best" for k in best}, ends
