"""Makes the page of report.html: a run in a single file without scripts or external resources.

Names, settings and numbers come from files that somebody may have sent, and pages are shared. So
all that is put into the page is escaped, printable and of bounded length.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from metarl.runs import plot_style
from metarl.runs.adaptation import Adaptation
from metarl.runs.adaptation_plot import adaptation_figure
from metarl.runs.class_success import ALL_CLASSES, class_success
from metarl.runs.class_success import table as class_table
from metarl.runs.class_success_plot import success_figure
from metarl.runs.comparison import curves, table
from metarl.runs.progress import duration, short
from metarl.runs.published import Published
from metarl.runs.training_plot import training_figure
from metarl.text import printable

MOST_TEXT = 2000
"""Characters of a name or a value."""
MOST_ROWS = 1000
"""Rows of a table."""


def render(
    name: str,
    config: str,
    environment: Mapping[str, Any],
    rows: Sequence[Mapping[str, float]],
    evaluated: Sequence[Adaptation],
    published: Published | None = None,
    predictions: Mapping[str, bytes] | None = None,
    head: str = "",
) -> str:
    """Returns the page; it leaves out training or evaluation if there was none yet.

    Args:
        config: the text of config.yaml.
        rows: rows of metrics.jsonl.
        evaluated: evaluations of the splits; the key facts are those of the first.
        predictions: split -> the picture of a few-shot learner's predictions.
        head: more HTML for the page's head.
    """
    adaptation = evaluated[0] if evaluated else None
    pages = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_bounded
    )
    template = resources.files("metarl.runs").joinpath("report.html.j2").read_text(encoding="utf-8")
    return pages.from_string(template).render(
        name=name,
        head=Markup(head),
        config=escape(printable(config)),
        environment=_some(list(_flat(environment))),
        facts=_facts(rows, adaptation),
        adaptation=adaptation,
        evaluations=[
            _section(each, published, (predictions or {}).get(each.split)) for each in evaluated
        ],
        all_classes=ALL_CLASSES,
        training_png=_drawn(training_figure(rows, name)) if rows else "",
        few_shot=_few_shot(rows),
        source=published.source if published else "",
    )


def _bounded(value: Any) -> Any:
    """Returns what is put into the page for a value; our own HTML stays as it is."""
    if isinstance(value, Markup):
        return value
    text = value if isinstance(value, str) else str(value)
    return printable(text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}...")


def _some(rows: list[Any]) -> list[Any]:
    """Returns the first rows of a long table, and how many are left out."""
    if len(rows) <= MOST_ROWS:
        return rows
    return [*rows[:MOST_ROWS], (f"... and {len(rows) - MOST_ROWS:,} more rows", "")]


class Section(NamedTuple):
    """One evaluation on the page."""

    adaptation: Adaptation
    png: str
    headings: list[str]
    rows: list[list[str]]
    success_png: str
    """Success by class; like the next two, empty where tasks have no classes."""
    class_headings: list[str]
    class_rows: list[list[str]]
    predictions_png: str
    """Picture of predictions; empty if there is none."""


def _section(
    adaptation: Adaptation, published: Published | None, predictions: bytes | None
) -> Section:
    published = published if adaptation.split == "test" else None  # only for held-out tasks
    picture = _drawn(adaptation_figure(adaptation, published))
    predicted = _embedded(predictions) if predictions else ""
    success = class_success(adaptation)
    by_class = (_drawn(success_figure(success)), *class_table(success)) if success else ("", [], [])
    headings, rows = table(curves(adaptation, published))
    return Section(adaptation, picture, headings, _some(rows), *by_class, predicted)


def _drawn(figure: Figure) -> str:
    return _embedded(plot_style.png(figure))


def _embedded(png: bytes) -> str:
    return Markup("data:image/png;base64," + base64.b64encode(png).decode())


def _facts(
    rows: Sequence[Mapping[str, float]], adaptation: Adaptation | None
) -> list[tuple[str, str]]:
    """Returns the key facts of a run, as label and value."""
    facts = []
    if adaptation:
        mean, measure = adaptation.outcome.summary().mean, adaptation.measure
        last = adaptation.steps[-1]
        label = f"{measure.name} before and after {last} adaptation step{'s' if last != 1 else ''}"
        digits = 1 if measure.of_episodes else measure.digits(mean)
        before, after = (measure.text(mean[i], digits) or "not finite" for i in (0, -1))
        facts += [(label, f"{before} → {after}")]
        success = adaptation.outcome.success_summary()
        if success:
            facts += [("episodes solved", f"{success.mean[0]:.0%} → {success.mean[-1]:.0%}")]
    if rows:
        iterations = "iterations" if _few_shot(rows) else "meta-iterations"
        facts += [(iterations, f"{rows[-1]['iteration']:,}")]
        if _few_shot(rows):
            facts += [("tasks learned from", short(rows[-1]["tasks"]))]
        else:
            facts += [("environment steps", short(rows[-1].get("env_steps", 0)))]
        if "wall_s" in rows[-1]:
            facts += [("training time", duration(rows[-1]["wall_s"]))]
    return facts


def _few_shot(rows: Sequence[Mapping[str, float]]) -> bool:
    """Whether the run is a few-shot run, whose metrics count tasks."""
    return bool(rows) and "tasks" in rows[-1]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Flattens nested mappings to dotted keys and values."""
    flat = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{key}.")
        else:
            flat.append((f"{prefix}{key}", value))
    return flat
