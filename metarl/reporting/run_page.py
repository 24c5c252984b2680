"""Makes the page of a run: results, tasks, training, films, settings and how to repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from metarl.reporting.adaptation_charts import Drawn, adaptation_charts
from metarl.reporting.class_bars import class_bars
from metarl.reporting.commands import NOTE, commands
from metarl.reporting.films import Film
from metarl.reporting.learning_charts import learning
from metarl.reporting.pages import embedded, filled, flat, some
from metarl.reporting.task_charts import task_charts
from metarl.reporting.task_table import TaskTable, task_table
from metarl.runs.adaptation import Adaptation
from metarl.runs.class_success import ALL_CLASSES, class_success
from metarl.runs.class_success import table as class_table
from metarl.runs.comparison import curves, remarks, table
from metarl.runs.progress import duration, short
from metarl.runs.published import Published
from metarl.text import printable

Rows = Sequence[Mapping[str, float]]
"""Rows of metrics.jsonl."""
MOST_WHOLE = 6
"""Further evaluations with charts and tables; of the others there is a line."""


def render(
    name: str,
    config: str,
    environment: Mapping[str, Any],
    rows: Rows,
    evaluated: Sequence[Adaptation],
    published: Published | None = None,
    predictions: Mapping[str, bytes] | None = None,
    head: str = "",
    films: Sequence[Film] = (),
    place: str = "RUN_DIR",
    further: Sequence[Further] = (),
) -> str:
    """Returns the page; it leaves out training or evaluation if there was none yet.

    Args:
        config: the text of config.yaml.
        evaluated: evaluations of the splits; the key facts are those of the first.
        predictions: split -> the picture of a few-shot learner's predictions.
        head: more HTML for the page's head.
        place: the run's folder in the commands that repeat it.
        further: evaluations with names of their own.
    """
    adaptation = evaluated[0] if evaluated else None
    sections = [
        _section(each, published, (predictions or {}).get(each.split), number)
        for number, each in enumerate(evaluated)
    ]
    sections += [
        _section(each.adaptation, None, each.predictions, len(evaluated) + number, each.name)
        for number, each in enumerate(further[:MOST_WHOLE])
    ]
    return filled(
        "run.html.j2",
        name,
        head,
        subtitle=f"{adaptation.agent} on {adaptation.env}" if adaptation else "",
        sections=_anchors(sections, bool(further), bool(films)),
        facts=_facts(rows, adaptation),
        evaluations=sections,
        all_classes=ALL_CLASSES,
        further=_further(further),
        films=films,
        learning=learning(rows) if rows else None,
        source=published.credit if published else "",
        config=escape(printable(config)),
        environment=some(list(flat(environment))),
        place=place,
        commands=commands(place, adaptation),
        command_note=NOTE,
    )


class Further(NamedTuple):
    """An evaluation with a name of its own."""

    name: str
    adaptation: Adaptation
    predictions: bytes | None = None


def _further(further: Sequence[Further]) -> tuple[list[str], list[list[str]]]:
    """Returns headings, and a row for each evaluation with a name."""
    rows = []
    for name, adaptation, _ in further:
        measure, mean = adaptation.measure, adaptation.outcome.summary().mean
        digits = measure.digits(mean)
        ends = [measure.text(mean[place], digits) or "not finite" for place in (0, -1)]
        count = str(len(adaptation.tasks))
        rows.append([name, adaptation.env, adaptation.split, count, measure.name, *ends])
    return ["evaluation", "env", "split", "tasks", "measure", "before", "after"], rows


class Section(NamedTuple):
    """One evaluation on the page."""

    anchor: str
    title: str
    adaptation: Adaptation
    published: bool
    remarks: list[str]
    drawn: Drawn
    headings: list[str]
    rows: list[list[str]]
    tasks: TaskTable
    task_charts: list[Markup]
    class_bars: Markup
    """Success by class; like the next two, empty where tasks have no classes."""
    class_headings: list[str]
    class_rows: list[list[str]]
    predictions_png: Markup
    """Picture of predictions; empty if there is none."""


def _section(
    adaptation: Adaptation,
    published: Published | None,
    predictions: bytes | None,
    number: int,
    name: str = "",
) -> Section:
    published = published if adaptation.split == "test" else None  # only for held-out tasks
    success = class_success(adaptation)
    by_class = (class_bars(success), *class_table(success)) if success else (Markup(), [], [])
    headings, rows = table(curves(adaptation, published))
    return Section(
        f"adaptation{number or ''}",
        f"Evaluation {name}" if name else f"Adaptation, {adaptation.split} tasks",
        adaptation,
        published is not None,
        remarks(adaptation),
        adaptation_charts(adaptation, published),
        headings,
        some(rows),
        task_table(adaptation),
        task_charts(adaptation),
        *by_class,
        embedded(predictions) if predictions else Markup(),
    )


def _anchors(sections: Sequence[Section], further: bool, films: bool) -> list[tuple[str, str]]:
    """Returns the parts of the page with their anchors."""
    found = [(each.anchor, each.title) for each in sections] or [("adaptation", "Adaptation")]
    found += [("further", "Further evaluations")] if further else []
    found += [("films", "Films")] if films else []
    found += [("training", "Training"), ("repeat", "Repeat it")]
    return [*found, ("configuration", "Configuration"), ("environment", "Environment")]


def _facts(rows: Rows, adaptation: Adaptation | None) -> list[tuple[str, str]]:
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
        made = adaptation.made_from
        if "checkpoint" in made and "iteration" in made:
            facts += [("checkpoint evaluated", f"{made['iteration']} ({made['checkpoint']})")]
    if rows:
        few_shot = "tasks" in rows[-1]  # such a run counts tasks
        facts += [("iterations" if few_shot else "meta-iterations", f"{rows[-1]['iteration']:,}")]
        if few_shot:
            facts += [("tasks learned from", short(rows[-1]["tasks"]))]
        else:
            facts += [("environment steps", short(rows[-1].get("env_steps", 0)))]
        if "wall_s" in rows[-1]:
            facts += [("training time", duration(rows[-1]["wall_s"]))]
    return facts
