"""`metarl list agents|presets|envs`: prints what there is by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from metarl.agents import catalogue as agents
from metarl.config.command_line import once, take, take_positional, take_switch, wants_help
from metarl.config.settings import Source
from metarl.envs import catalogue as envs
from metarl.envs.supervised import families
from metarl.errors import UserError, nearest
from metarl.experiments.presets import PRESETS
from metarl.text import say

WHAT = ("agents", "presets", "envs")
SOURCES: tuple[Source, ...] = ("episodes", "examples")
DESCRIPTION = """usage: metarl list agents|presets|envs [--kind episodes|examples] [--json]

Prints names, each with a line about it. The kind says what a task is learned from: `episodes` of
reinforcement learning, or labelled `examples`. --kind keeps those of one kind, --json prints a JSON
list of objects."""

Row = dict[str, Any]


def main(argv: Sequence[str]) -> None:
    if wants_help(argv):
        say(DESCRIPTION)
        return
    words = once(argv)
    as_json, kind, what = (
        take_switch(words, "--json"),
        take(words, "--kind"),
        take_positional(words),
    )
    if what is None:
        raise UserError(f"list what? there are {', '.join(WHAT)}, as in metarl list agents")
    if what not in WHAT:
        raise UserError(f"{what!r} is nothing to list{nearest(what, WHAT)}")
    if words:
        raise UserError(f"{words[0]!r} belongs to no flag; `metarl list --help` has the flags")
    if kind is not None and kind not in SOURCES:
        raise UserError(f"--kind is {kind!r}; give {' or '.join(SOURCES)}")
    rows = [row for row in rows_of(what) if kind in (None, row["kind"])]
    say(json.dumps(rows, indent=2, ensure_ascii=False) if as_json else table(rows))


def rows_of(what: str) -> list[Row]:
    """Returns what there is by name: "agents", "presets" or "envs"."""
    return list({"agents": _agents, "presets": _presets, "envs": _envs}[what]())


def _agents() -> Iterator[Row]:
    for source in SOURCES:
        for name in agents.names(source):
            inner, outer = agents.rules(name, source)
            about = {"inner": inner, "outer": outer, "summary": agents.summary(name, source)}
            yield {"name": name, "kind": source, **about}


def _presets() -> Iterator[Row]:
    for name, entry in PRESETS.items():
        config = entry.config
        yield {
            "name": name,
            "kind": "examples" if families.is_one(config.env.name) else "episodes",
            "agent": config.agent.name,
            "env": config.env.name,
            "summary": entry.summary,
        }


def _envs() -> Iterator[Row]:
    for name in envs.names():
        family, _, variant = name.partition(":")
        entry = envs.FAMILIES[family]
        about = {"horizon": entry.variants[variant], "summary": entry.summary}
        yield {"name": name, "kind": "episodes", **about}
    for name in families.names():
        summary = families.FAMILIES[name.partition(":")[0]].summary
        yield {"name": name, "kind": "examples", "horizon": None, "summary": summary}


def table(rows: Sequence[Row]) -> str:
    """Returns rows as aligned columns under their names."""
    if not rows:
        return "none"
    names = list(rows[0])
    lines = [
        names,
        *(["" if row[name] is None else str(row[name]) for name in names] for row in rows),
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
