"""Decides where an evaluation or a report is written: into the run's folder, or elsewhere.

Elsewhere nothing is replaced but an evaluation or a report of the same run, and the run's own
folder is only read.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from metarl import found
from metarl.config.yaml_text import LONGEST
from metarl.errors import UserError
from metarl.runs import places, publish
from metarl.runs.directory import (
    MARKER,
    SPLITS,
    Evaluation,
    RunDirectory,
    check_evaluations,
    existing,
    is_run,
    make_writable,
)
from metarl.text import printable

REPORT_OF = '<meta name="run" content="{}">'
"""Line of a report that says of which run it is."""
SEVERAL = "several"
"""In that line, of a page about several runs."""


def identity(run: RunDirectory) -> str:
    """Returns a hash that copies of a run share, wherever they lie, and no two runs.

    It is of the first line of metrics.jsonl, which holds the time that the iteration took.
    """
    source = run.metrics if run.metrics.exists() else run.config
    if source == run.metrics:
        with found.opened(source) as file:
            return hashlib.sha256(file.readline(found.SMALL)).hexdigest()
    return hashlib.sha256(found.read(source)).hexdigest()


def for_evaluation(run_dir: Path, out: str, name: str) -> RunDirectory:
    """Returns the paths of a run, with those of evaluations and of the report in the folder `out`
    if one is given. The folder is made, and can be written; so can that of the evaluation `name`.

    Raises:
        UserError: if there is no run, if the folder cannot be written, if it lies in a run's folder
            or holds an evaluation of another run, or holds what `directory.check` refuses.
    """
    run = existing(run_dir)
    if out:
        folder = Path(out).expanduser()
        run.evaluation, run.report = Evaluation(folder), folder / run.report.name
        run.errors = folder / run.errors.name
        _refuse_runs(run.evaluation_of(name).root, out)
        check_evaluations(folder, run.evaluation)
        places.check(folder, [], [run.report, run.errors, folder / MARKER])
        publish.finish(run)
        _check_owner(run, folder, name)
    files = run.evaluation_of(name)
    places.check(run.evaluation.root, [files.root] * (name != "test"), files.files)
    made = name == "test" or files.root.is_dir()  # others are made with their files
    try:
        make_writable(run.report.parent, run.evaluation.root, *([files.root] if made else []))
    except OSError as error:
        instead = "give another folder" if out else "give a folder for the evaluation"
        raise UserError(
            f"{error.filename} cannot be written: {error.strerror}\n{instead} with --out"
        ) from error
    publish.finish(run)
    return run


def mark(run: RunDirectory) -> dict[str, bytes]:
    """Returns what says in an evaluation's folder of which run it is, if it is not the run's own:
    the contents of a file by its name."""
    if run.report.parent == run.root:
        return {}
    owner = {"run": str(run.root.resolve()), "identity": identity(run)}
    return {MARKER: (json.dumps(owner, indent=2) + "\n").encode()}


def for_report(run_dir: Path, out: str) -> RunDirectory:
    """Returns the paths of a run, with that of the report at `out` if a file is given.

    Raises:
        UserError: if there is no run, or if the file lies in a run's folder or is anything but a
            report of the same run.
    """
    run = existing(run_dir)
    if not out:
        return run
    run.report = Path(out).expanduser()
    if run.report.suffix != ".html" or run.report.is_dir():
        raise UserError(f"--out is {out!r}; give an .html file")
    _refuse_runs(run.report.parent, out)
    if run.report.exists() and not _is_report_of(run):
        raise UserError(f"{out} is there already and no report of this run; give another --out")
    return run


def for_several(folder: Path, out: str) -> Path:
    """Returns the place of a page about several runs: `out` if a file is given, else in `folder`.

    Raises:
        UserError: if it lies in a run's folder, or is anything but such a page.
    """
    page = Path(out).expanduser() if out else folder / "report.html"
    if page.suffix != ".html" or page.is_dir():
        raise UserError(f"--out is {out or str(page)!r}; give an .html file")
    _refuse_runs(page.parent, out or str(page))
    if os.path.lexists(page) and not _says(page, SEVERAL):
        raise UserError(f"{page} is there already and no page of several runs; give another --out")
    return page


def _is_report_of(run: RunDirectory) -> bool:
    return _says(run.report, identity(run))


def _says(page: Path, whose: str) -> bool:
    """Returns whether a page says that it is of a run."""
    try:
        with found.opened(page) as file:  # the line is at the top; pictures make it long
            return REPORT_OF.format(whose).encode() in file.read(found.SMALL)
    except OSError as error:
        raise UserError(f"{page} cannot be read: {error.strerror}") from error


def _refuse_runs(folder: Path, out: str) -> None:
    """Raises a UserError for a folder that is a run's or lies in one."""
    for place in (folder.resolve(), *folder.resolve().parents):
        if is_run(place):
            raise UserError(
                f"--out is {out!r}, which puts files into the folder of the run {place}; give a "
                "place outside of runs' folders"
            )


def _check_owner(run: RunDirectory, folder: Path, name: str) -> None:
    """Raises a UserError if a folder holds files of another evaluation than this run's."""
    files = [path for each in (*SPLITS, name) for path in run.evaluation_of(each).files]
    held = next((path for path in (*files, run.report) if path.exists()), None)
    if held is None:
        return
    try:
        owner = found.json_object(folder / MARKER, values=100)
        known, whose = owner["identity"], f"the run {printable(str(owner['run']))[:LONGEST]}"
    except (OSError, ValueError, KeyError):
        known, whose = "", f"a run that no {MARKER} names"
    if known != identity(run):
        raise UserError(f"{held} is there already, of {whose}; give another folder with --out")
