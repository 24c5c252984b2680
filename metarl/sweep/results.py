"""Results of a sweep: the table, sweep.json, best.yaml and sweep.png."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from metarl.config.files import dump
from metarl.runs import plot_style as look
from metarl.runs.comparison import aligned
from metarl.runs.files import replace_bytes, replace_text
from metarl.runs.measures import Measure
from metarl.sweep.parameters import Parameter, changed
from metarl.sweep.running import Plan
from metarl.sweep.study import WHY, Study

FORMAT = 1
ROWS = 10
"""Trials in the table, the best first."""
COLUMNS = 4
"""Pictures in a row."""


def table(study: Study, measure: Measure) -> str:
    """Returns the best trials and how the others ended."""
    best = study.complete()
    digits = measure.digits(np.array([trial.value for trial in best]))
    headings = ["trial", measure.name, *(parameter.key for parameter in study.parameters)]
    rows = [
        [
            str(trial.number),
            measure.text(trial.value, digits),
            *(_text(value) for value in study.values(trial).values()),
        ]
        for trial in best[:ROWS]
    ]
    states: dict[str, int] = {}
    for trial in study.trials:
        states[trial.state.name.lower()] = states.get(trial.state.name.lower(), 0) + 1
    told = ", ".join(f"{count} {name}" for name, count in states.items())
    return f"{aligned(headings, rows)}\n\n{len(study.trials)} trials: {told}"


def write(plan: Plan, study: Study, measure: Measure, about: dict[str, Any]) -> list[Path]:
    """Writes best.yaml, sweep.json and sweep.png; returns their paths."""
    best = study.complete()[0]
    chosen: Any = replace(changed(plan.config, study.values(best)), run_dir="")
    header = (
        f"# trial {best.number} of {len(study.trials)}: {measure.name} {best.value:.6g} after "
        f"adaptation on {plan.select_on} tasks\n"
    )
    paths = [plan.root / name for name in ("best.yaml", "sweep.json", "sweep.png")]
    replace_text(paths[0], header + dump(chosen))
    replace_text(paths[1], _document(study, measure, about))
    replace_bytes(paths[2], look.png(figure(study, measure)))
    return paths


def next_command(plan: Plan) -> str:
    """Returns the command that trains the best settings with five seeds, on all training tasks."""
    name = plan.root.name.removesuffix("-sweep")
    words = ["metarl", "train", "--config", quote(str(plan.root / "best.yaml"))]
    words += ["--seeds", "5", "--run-dir", quote(str(plan.root.parent / f"{name}-best"))]
    for flag, code in (("--env", plan.env), ("--agent", plan.agent)):
        words += [flag, quote(code)] if code else []
    return " ".join(words)


def _document(study: Study, measure: Measure, about: dict[str, Any]) -> str:
    document = {
        "format": FORMAT,
        "kind": "metarl sweep",
        "measure": measure.name,
        "lower_is_better": measure.lower_is_better,
        "best": study.complete()[0].number,
        "about": about,
        "trials": [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "value": _number(trial.value),
                "settings": trial.params,
                "why": trial.user_attrs.get(WHY),
            }
            for trial in study.trials
        ],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def figure(study: Study, measure: Measure) -> Figure:
    """Returns the picture: values by trial, and by each parameter."""
    trials = sorted(study.complete(), key=lambda trial: trial.number)
    count = 1 + len(study.parameters)
    columns = min(COLUMNS, count)
    rows = math.ceil(count / columns)
    title = f"{len(trials)} trials: {measure.name} after adaptation"
    with look.titled_figure(4.2 * columns, 3.6 * rows + 0.3, title) as made:
        axes = made.subplots(rows, columns, squeeze=False).ravel()
        values = look.drawable(np.array([trial.value for trial in trials]))
        _history(axes[0], trials, values, measure)
        for place, parameter in zip(axes[1:], study.parameters, strict=False):
            _slice(place, parameter, trials, values)
        for place in axes[count:]:
            place.set_axis_off()
        for place in axes[:count]:
            if measure.lower_is_better and (values > 0).all() and values.max() > 10 * values.min():
                place.set_yscale("log")
    return made


def _history(axes: Axes, trials: Sequence[Any], values: np.ndarray, measure: Measure) -> None:
    numbers = [trial.number for trial in trials]
    best = (np.fmin if measure.lower_is_better else np.fmax).accumulate(values)
    axes.plot(numbers, values, "o", color=look.BLUE, alpha=0.6)
    axes.step(numbers, best, where="post", color=look.VERMILION)
    axes.set_title("history, and the best so far")
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(measure.name)


def _slice(axes: Axes, parameter: Parameter, trials: Sequence[Any], values: np.ndarray) -> None:
    stored = [trial.params.get(parameter.key) for trial in trials]
    if parameter.kind == "choice":
        axes.plot([parameter.labels.index(x) for x in stored], values, "o", color=look.BLUE)
        names = [look.name(_text(choice)) for choice in parameter.choices]
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
    else:
        axes.plot(stored, values, "o", color=look.BLUE, alpha=0.6)
        if parameter.log:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlim(parameter.low / 1.1, 1.1 * parameter.high)
    axes.set_title(look.name(parameter.key))


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
