"""Makes the page that compares several runs: curves over seeds, figures, and settings that differ.

Runs on different tasks are in different sections, since their returns mean different things.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from metarl.comparison.comparing import compare
from metarl.errors import UserError
from metarl.reporting.comparison_charts import Compared, compared
from metarl.reporting.legend import legend
from metarl.reporting.pages import filled, flat, some
from metarl.reporting.run_table import HEADINGS, run_row
from metarl.reporting.seed_charts import learning_curves, looks
from metarl.reporting.several import Learner

MOST_KEYS = 200
"""Settings in the table of differences."""
MOST_COLUMNS = 40
"""Learners in the table of differences."""
NOT_COMPARED = {"run_dir"}
"""Settings that differ in any two runs."""


class Section(NamedTuple):
    """Learners on the same tasks."""

    env: str
    anchor: str
    legend: Markup
    curves: list[Markup]
    seeds: bool
    """Whether a learner has several seeds."""
    compared: Compared | None
    note: str
    """Reason why there are no figures of some learners, or of any."""


def render(learners: Sequence[Learner], head: str = "") -> str:
    """Returns the page; learners keep their order and their colour."""
    by_env: dict[str, list[Learner]] = {}
    for learner in learners:
        by_env.setdefault(learner.env, []).append(learner)
    sections = [_section(env, group, number) for number, (env, group) in enumerate(by_env.items())]
    members = [(learner, member) for learner in learners for member in learner.members]
    rows = [run_row(member, _name(learner, member.run.root.name)) for learner, member in members]
    anchors = [(section.anchor, section.env) for section in sections]
    title = learners[0].label if len(learners) == 1 else f"{len(learners)} learners"
    return filled(
        "several.html.j2",
        title,
        head,
        subtitle=", ".join(dict.fromkeys(by_env)),
        sections=[*anchors, ("runs", "Runs"), ("settings", "Settings")],
        facts=_facts(learners, sections),
        parts=sections,
        headings=HEADINGS,
        rows=some(rows),
        differences=_differences(learners),
    )


def _name(learner: Learner, folder: str) -> str:
    return f"{learner.label}/{folder}" if len(learner.members) > 1 else learner.label


def _section(env: str, learners: Sequence[Learner], number: int) -> Section:
    styles = dict(zip((each.label for each in learners), looks(len(learners)), strict=True))
    evaluated = [each for each in learners if each.evaluated]
    found, note = None, ""
    if left := [each.label for each in learners if not each.evaluated]:
        note = f"Without an evaluation on held-out tasks: {', '.join(left)}."
    if evaluated:
        try:
            comparison = compare([each.path for each in evaluated], [e.label for e in evaluated])
            found = compared(comparison, styles)
        except UserError as error:
            note = f"The evaluations are not compared: {error}. {note}".strip()
    return Section(
        env,
        f"tasks{number}",
        legend([(label, look, "") for label, look in styles.items()]),
        learning_curves(learners, styles),
        any(len(each.members) > 1 for each in learners),
        found,
        note,
    )


def _facts(learners: Sequence[Learner], sections: Sequence[Section]) -> list[tuple[str, str]]:
    runs = sum(len(learner.members) for learner in learners)
    facts = [("learners", str(len(learners))), ("runs", str(runs))]
    if len(sections) == 1 and (found := sections[0].compared) is not None:
        facts += found.facts
    return facts


def _differences(learners: Sequence[Learner]) -> tuple[list[str], list[list[str]]]:
    """Returns headings and rows of the settings that are not the same for all learners."""
    shown = learners[:MOST_COLUMNS]
    settings = [_settings(learner) for learner in shown]
    keys = dict.fromkeys(key for each in settings for key in each)
    rows = [
        [key, *(each.get(key, "") for each in settings)]
        for key in keys
        if len({each.get(key, "") for each in settings}) > 1
    ]
    return ["setting", *(learner.label for learner in shown)], rows[:MOST_KEYS]


def _settings(learner: Learner) -> Mapping[str, str]:
    """Returns a learner's settings as text by dotted key; of several seeds all their seeds."""
    found: dict[str, Any] = dict(flat(learner.members[0].settings))
    seeds = [str(member.settings.get("seed", "")) for member in learner.members]
    if len(seeds) > 1:
        found["seed"] = ", ".join(seeds)
    return {str(key): str(value) for key, value in found.items() if key not in NOT_COMPARED}
