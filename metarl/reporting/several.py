"""Reads several runs, or folders of seeds, and writes a page that compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metarl.comparison.learners import labelled
from metarl.config.files import read_mapping
from metarl.errors import UserError
from metarl.runs import output, publish
from metarl.runs.adaptation import Adaptation, read_json
from metarl.runs.directory import RunDirectory, existing
from metarl.runs.files import replace_text
from metarl.runs.metrics import Row, read
from metarl.runs.seeds import seeds_of


class Member(NamedTuple):
    """One run of a learner."""

    run: RunDirectory
    settings: Mapping[str, Any]
    rows: Sequence[Row]
    adaptation: Adaptation | None
    """Evaluation on held-out tasks, if there is one."""

    @property
    def env(self) -> str:
        return named(self.settings, "env")

    @property
    def agent(self) -> str:
        return named(self.settings, "agent")


class Learner(NamedTuple):
    """A run, or the runs of a folder of seeds."""

    label: str
    path: Path
    members: tuple[Member, ...]

    @property
    def env(self) -> str:
        return self.members[0].env

    @property
    def evaluated(self) -> bool:
        return all(member.adaptation is not None for member in self.members)


def write_several(paths: Sequence[Path], page: Path) -> Path:
    """Writes a page that compares runs and folders of seeds, and returns its path.

    Args:
        paths: a run or a folder of seeds for each learner.
        page: place of the page; see `output.for_several`.

    Raises:
        UserError: for a folder that is neither, for files that cannot be read, and for a place that
            cannot be written.
    """
    from metarl.reporting.several_page import render

    learners = [
        Learner(label, path, tuple(member(run) for run in seeds_of(path)))
        for label, path in labelled(paths).items()
    ]
    return written(page, render(learners, output.REPORT_OF.format(output.SEVERAL)))


def member(path: Path) -> Member:
    """Reads one run.

    Raises:
        UserError: for a folder that is no run, and for files that cannot be read.
    """
    run = existing(path)
    try:
        file = publish.seen(run, "test", run.evaluation.adaptation_json)
        adaptation = read_json(file) if file.is_file() else None
        rows = read(run.metrics) if run.metrics.exists() else []
        return Member(run, read_mapping(run.config), rows, adaptation)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


def named(settings: Mapping[str, Any], section: str) -> str:
    """Returns the name in a section of a config; "unknown" if there is none."""
    inside = settings.get(section)
    name = inside.get("name") if isinstance(inside, Mapping) else None
    return name if isinstance(name, str) else "unknown"


def written(page: Path, text: str) -> Path:
    """Writes a page; raises a UserError where it cannot be written."""
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        replace_text(page, text)
    except OSError as error:
        raise UserError(
            f"{page} cannot be written: {error.strerror}; give another place with --out"
        ) from error
    return page
