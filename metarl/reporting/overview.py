"""Writes a page of all runs below a folder, as a table that can be sorted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from markupsafe import Markup, escape

from metarl.errors import UserError
from metarl.reporting.pages import address, bounded, filled
from metarl.reporting.run_table import HEADINGS, run_row
from metarl.reporting.several import member, written
from metarl.runs import output
from metarl.runs.directory import is_run

DEPTH = 5
"""Levels of folders below which no run is looked for."""
MOST_RUNS = 1000
"""Runs on a page."""
MOST_FOLDERS = 20_000
"""Folders that are looked into."""


def runs_below(root: Path) -> Iterator[Path]:
    """Yields the folders of runs below a folder, sorted by name; links are not followed."""
    found = 0
    for number, (folder, inside, _) in enumerate(os.walk(root)):
        path = Path(folder)
        deep = len(path.relative_to(root).parts) >= DEPTH or number >= MOST_FOLDERS
        if path != root and is_run(path):
            found += 1
            yield path
            inside.clear()
        inside[:] = [] if deep else sorted(name for name in inside if not name.startswith("."))
        if found == MOST_RUNS or number >= MOST_FOLDERS:
            return


def write_overview(root: Path, page: Path) -> Path:
    """Writes the page of the runs below a folder, and returns its path.

    A run whose files cannot be read has a row that says so.

    Raises:
        UserError: for a folder without runs, and a place that cannot be written.
    """
    folders = list(runs_below(root))
    if not folders:
        raise UserError(
            f"{root} is no run, and there are no runs below it\n"
            "a run's folder has a config.yaml; `metarl train PRESET` makes one"
        )
    rows, faults = [], []
    for folder in folders:
        name = str(folder.relative_to(root))
        try:
            cells = run_row(member(folder), name)
        except UserError as error:
            faults.append((name, str(error)))
            continue
        rows.append([_linked(folder, name, page), *cells[1:]])
    tasks, agents = (HEADINGS.index(name) for name in ("tasks", "agent"))
    facts = [("runs", f"{len(folders):,}")]
    facts.append(("task distributions", str(len({row[tasks] for row in rows}))))
    facts.append(("agents", str(len({row[agents] for row in rows}))))
    text = filled(
        "overview.html.j2",
        root.resolve().name,
        output.REPORT_OF.format(output.SEVERAL),
        facts=facts,
        headings=HEADINGS,
        rows=rows,
        faults=faults,
        cut=len(folders) == MOST_RUNS,
    )
    return written(page, text)


def _linked(folder: Path, name: str, page: Path) -> Markup | str:
    """Returns a run's name, as a link to its report if it has one."""
    report = folder / "report.html"
    if not report.is_file() or report.is_symlink():
        return name
    return Markup(f'<a href="{escape(address(report, page))}">{escape(bounded(name))}</a>')
