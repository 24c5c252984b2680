"""Checks of a run's evaluations and of its report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from metarl import found
from metarl.diagnosis.finding import FAULT, NOTE, OK, Finding, command, removal
from metarl.diagnosis.weights import Weights
from metarl.errors import UserError
from metarl.runs import output, publish
from metarl.runs.adaptation import Adaptation, as_csv, read_json
from metarl.runs.bounds import MOST_BYTES
from metarl.runs.directory import SPLITS, Evaluation, RunDirectory, names_in
from metarl.text import shown

SLACK_S = 60.0
"""Difference of two files' times that copying may make, s."""
PNG = b"\x89PNG\r\n\x1a\n"


def evaluations(run: RunDirectory, weights: Weights) -> Iterator[Finding]:
    for name in names_in(run.evaluation.root):
        part, flags = "evaluation", ()
        if name == "train":
            part, flags = "evaluation of train tasks", ("--split", name)
        elif name != "test":
            part, flags = f"evaluation {name}", ("--name", "NAME")
        files = run.evaluation_of(name)
        again = f"{command('evaluate', run.root, *flags)} makes it anew"
        if name not in SPLITS:
            again = f"{removal(files.root, folder=True)}, and {again}"
        again = again if weights.intact else "put back a copy"
        json = publish.seen(run, name, files.adaptation_json)
        if json.exists():
            yield from _evaluation(run, name, files, json, weights, part, again)
        elif left := [path.name for path in files.files if path.exists()]:
            text = f"{', '.join(left)} without adaptation.json"
            yield Finding(FAULT, part, text, again)
        elif name == "test":
            yield Finding(OK, part, "none yet")


def _evaluation(
    run: RunDirectory,
    name: str,
    files: Evaluation,
    json: Path,
    weights: Weights,
    part: str,
    again: str,
) -> Iterator[Finding]:
    try:
        adaptation = read_json(json)
    except UserError as error:
        yield Finding(FAULT, part, str(error).partition("\n")[0], again)
        return
    if name in SPLITS and adaptation.split != name:
        text = f"{json} is of the split {shown(adaptation.split)}, not {name!r}"
        yield Finding(FAULT, part, text, again)
        return
    others = [path for path in files.files if publish.seen(run, name, path).exists()]
    if others == [files.adaptation_json]:  # as in runs that ship
        text = f"{len(adaptation.tasks)} tasks; {json.name} alone, without table and picture"
        yield Finding(NOTE, part, text, again)
        return
    fault = False
    for text in _disagreements(run, name, files, adaptation, json):
        fault = True
        yield Finding(FAULT, part, text, again)
    iteration = adaptation.made_from.get("iteration")
    old = iteration is not None and iteration < weights.newest and iteration != weights.best
    if old and name in SPLITS:  # others are kept on purpose
        text = f"it is of iteration {iteration}, and the best checkpoint is of {weights.best}"
        yield Finding(NOTE, part, text, again)
    elif not fault:
        yield Finding(OK, part, f"whole, {len(adaptation.tasks)} tasks, iteration {iteration}")


def _disagreements(
    run: RunDirectory, name: str, files: Evaluation, adaptation: Adaptation, json: Path
) -> Iterator[str]:
    """Yields where files of an evaluation are not of one set."""
    csv, png = (publish.seen(run, name, x) for x in (files.adaptation_csv, files.adaptation_png))
    for path in (csv, png):
        if not path.exists():
            yield f"{path} is missing"
    if csv.exists() and found.read(csv, MOST_BYTES) != as_csv(adaptation):
        yield f"{csv} has other numbers than {json.name}"
    pictures = (png, publish.seen(run, name, files.predictions_png))
    for path in (path for path in pictures if path.exists()):
        if found.read(path, MOST_BYTES)[: len(PNG)] != PNG:
            yield f"{path} is no picture"
        elif path.stat().st_mtime < json.stat().st_mtime - SLACK_S:
            yield f"{path} is older than {json.name}"


def report(run: RunDirectory) -> Iterator[Finding]:
    """Yields whether the report is of this run and of its newest results."""
    again = f"{command('report', run.root)} writes it anew"
    path = publish.seen(run, "test", run.report)
    if not path.exists():
        yield Finding(OK, "report", "none yet")
        return
    with found.opened(path) as file:
        whole = output.REPORT_OF.format(output.identity(run)).encode() in file.read(found.SMALL)
    if not whole:
        text = f"{path} is not of this run"
        yield Finding(FAULT, "report", text, f"{removal(path)}, or {again}")
        return
    written = path.stat().st_mtime
    newer = [run.metrics, *(run.evaluation_of(split).adaptation_json for split in SPLITS)]
    newer = [x.name for x in newer if x.exists() and x.stat().st_mtime > written + SLACK_S]
    if newer:
        yield Finding(NOTE, "report", f"it is older than {', '.join(newer)}", again)
    else:
        yield Finding(OK, "report", "of this run and its newest results")
