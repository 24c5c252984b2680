"""All checks of a run's folder, which they only read, and what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from metarl.diagnosis import folder, learning, records, replay, results, weights
from metarl.diagnosis.finding import FAULT, Finding, command
from metarl.errors import UserError
from metarl.experiments.assembly import run_config
from metarl.runs import directory
from metarl.runs.directory import RunDirectory
from metarl.text import shown


def diagnosed(root: Path, tell: Callable[[Finding], object]) -> tuple[bool, str]:
    """Checks the run in a folder and tells each finding.

    Returns whether it has no fault, and a sentence that says what to do next.

    Raises:
        UserError: if there is no run.
    """
    run = RunDirectory(root)
    if not run.root.is_dir():
        raise UserError(f"there is no run directory {run.root}")
    marks: list[Finding] = []

    def noted(found: Iterable[Finding]) -> None:
        for finding in found:
            marks.append(finding)
            tell(finding)

    noted(_guarded("folder", lambda: _inside(run)))
    if marks[-1].mark != FAULT:  # else other checks would read what a link leads to
        if not run.config.is_file():
            raise UserError(f"{run.root} is no run directory: it has no {run.config.name}")
        following = _of_run(run, noted)
    else:
        following = ""
    faults = [finding for finding in marks if finding.mark == FAULT]
    if not faults:
        return True, following
    first = next((finding for finding in faults if finding.remedy), faults[0])
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
    return False, f"{count}; mend first: {first.part}: {first.remedy or first.text}"


def _inside(run: RunDirectory) -> Iterator[Finding]:
    directory.check(run)
    yield Finding("ok", "folder", f"{run.root}: no links out of it, and no pipes or devices")


def _of_run(run: RunDirectory, noted: Callable[[Iterable[Finding]], None]) -> str:
    """Checks the files of a run; returns what to do next if there is no fault."""
    noted(_guarded("lock", lambda: folder.lock(run)))
    noted(_guarded("permissions", lambda: folder.permissions(run)))
    noted(_guarded("disk", lambda: folder.disk(run)))
    noted(_guarded("leftovers", lambda: folder.leftovers(run)))
    config = log = None
    found = weights.Weights({}, {}, 0, 0)
    try:
        config = run_config(run.root)
        noted(records.config(run, config))
    except UserError as error:
        noted([_fault("config", error, "mend the file, or put back a copy")])
    noted(_guarded("environment", lambda: records.machine(run)))
    if config is not None:
        noted(_guarded("data", lambda: records.learned_from(run, config)))
    try:
        found = weights.weights(run)
        log = learning.log(run)
    except (UserError, OSError) as error:
        remedy = "put back the file, or remove it from that line on"
        noted([_fault("metrics", error, remedy)])
    if log is not None:
        noted(_guarded("metrics", lambda: learning.written(run, log, found.newest)))
        noted(_guarded("learning", lambda: learning.learned(log)))
    noted(_guarded("checkpoints", lambda: weights.saved(run, found, log.last if log else 0)))
    noted(_guarded("replay", lambda: replay.replay(run, found.intact)))
    if config is not None:
        noted(_guarded("weights", lambda: weights.fits(run, config, found)))
    noted(_guarded("evaluation", lambda: results.evaluations(run, found)))
    noted(_guarded("report", lambda: results.report(run)))
    return _next(run, config.iterations if config else 0, found)


def _guarded(part: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yields a check's findings; anything that it raises is one too."""
    try:
        yield from check()
    except UserError as error:
        first, _, rest = str(error).partition("\n")
        yield Finding(FAULT, part, first, rest)
    except Exception as error:  # a damaged file may raise what nobody foresaw
        yield Finding(FAULT, part, f"cannot be checked: {shown(error, 200)}")


def _fault(part: str, error: Exception, remedy: str) -> Finding:
    first, _, rest = str(error).partition("\n")
    return Finding(FAULT, part, first, rest or remedy)


def _next(run: RunDirectory, iterations: int, found: weights.Weights) -> str:
    train = command("train", "--config", run.config)
    if who := folder.holder(run):
        return f"healthy: in use by {who}; wait for its end"
    if found.newest < iterations:
        return f"healthy: {found.newest} of {iterations} iterations; {train} continues"
    if not run.evaluation.adaptation_json.exists():
        return f"healthy: {command('evaluate', run.root)} evaluates it"
    if not run.report.exists():
        return f"healthy: {command('report', run.root)} writes its report"
    return f"healthy: trained and evaluated; see {run.report}"
