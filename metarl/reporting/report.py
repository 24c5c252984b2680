"""Writes report.html of a run from the files in the run's folder."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path

from metarl import found
from metarl.errors import UserError
from metarl.reporting.films import PNG, films
from metarl.reporting.run_page import Further, render
from metarl.runs import data, output, publish
from metarl.runs import environment as environments
from metarl.runs.adaptation import Adaptation, read_json
from metarl.runs.directory import SPLITS, RunDirectory, existing, make_writable
from metarl.runs.evaluations import evaluations_of
from metarl.runs.files import replace_text
from metarl.runs.metrics import read
from metarl.runs.published import Published
from metarl.text import shown

MOST_PNG = 10 << 20
"""Bytes of a picture."""
MOST_FURTHER = 30
"""Evaluations with names of their own that a page tells of."""


def write_report(run_dir: Path | RunDirectory, published: Published | None = None) -> Path:
    """Writes a run's report.html from the files in the run's folder, and returns its path.

    Args:
        run_dir: the run's folder, or paths of which that of the report is elsewhere; the folder is
            then only read.
        published: published figures for the run's task distribution and horizon.

    Raises:
        UserError: if the folder is no run, or one of its files can't be read.
    """
    run = run_dir if isinstance(run_dir, RunDirectory) else existing(run_dir)
    own = run.report.parent == run.root and run.evaluation.root.is_dir()
    try:
        make_writable(run.report.parent)
        with publish.publishing(run) if own else nullcontext():
            replace_text(run.report, page(run, published))
    except OSError as error:
        raise UserError(
            f"{run.report} cannot be written: {error.strerror}\n"
            "`metarl report RUN_DIR --out FILE.html` writes it elsewhere"
        ) from error
    return run.report


def page(
    run: RunDirectory,
    published: Published | None = None,
    new: Adaptation | None = None,
    predictions: bytes | None = None,
) -> str:
    """Returns the page of a run's files.

    Args:
        new: an evaluation, with its picture of predictions, in the place of that of its split.

    Raises:
        UserError: if one of the files can't be read.
    """
    try:
        return _page(run, published, new, predictions)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


def _page(
    run: RunDirectory,
    published: Published | None,
    new: Adaptation | None,
    predictions: bytes | None,
) -> str:
    evaluated, pictures = [], {}
    for split in SPLITS:
        if new is not None and new.split == split:
            evaluated.append(new)
            pictures[split] = predictions
        elif (path := _seen(run, split, "adaptation.json")).exists():
            evaluated.append(_evaluation(path, split))
            pictures[split] = _picture(_seen(run, split, "predictions.png"))
    described = environments.read(run.environment) if run.environment.exists() else {}
    if (known := data.read(run)) is not None:
        described["data"] = {"sha256": known.sha256, "place": known.places[0]}
    return render(
        run.root.resolve().name,
        found.read_text(run.config),
        described,
        read(run.metrics),
        evaluated,
        published,
        {split: picture for split, picture in pictures.items() if picture},
        output.REPORT_OF.format(output.identity(run)),
        films(run.root, run.report),
        _place(run.root),
        _further(run),
    )


def _further(run: RunDirectory) -> list[Further]:
    """Reads the evaluations that are not of a split's tasks alone, the newest names last."""
    names = [name for name, _ in evaluations_of(run) if name not in SPLITS]
    found = []
    for name in names[:MOST_FURTHER]:
        adaptation = read_json(_seen(run, name, "adaptation.json"))
        found.append(Further(name, adaptation, _picture(_seen(run, name, "predictions.png"))))
    return found


def _place(root: Path) -> str:
    """Returns a run's folder for a command line; a page that is shared tells no other folders."""
    with suppress(ValueError):
        return str(root.resolve().relative_to(Path.cwd()))
    return root.resolve().name


def _seen(run: RunDirectory, evaluation: str, name: str) -> Path:
    return publish.seen(run, evaluation, run.evaluation_of(evaluation).root / name)


def _evaluation(path: Path, split: str) -> Adaptation:
    """Reads an evaluation, which must be of the split that its folder is for."""
    evaluation = read_json(path)
    if evaluation.split != split:
        raise UserError(
            f"{path}: split is {shown(evaluation.split)}, and this folder is for {split!r}"
        )
    return evaluation


def _picture(path: Path) -> bytes | None:
    """Returns a PNG picture; None if there is none.

    Raises:
        UserError: for what is no PNG, which might be any file, and for a huge one.
    """
    if not path.exists():
        return None
    content = found.read(path, MOST_PNG)
    if not content:  # in a set that is not at its place yet: there is no such picture any more
        return None
    if not content.startswith(PNG):
        raise UserError(f"{path} is no PNG picture; remove it")
    return content
