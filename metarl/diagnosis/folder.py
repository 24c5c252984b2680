"""Checks of a run's folder itself: what lies there, who writes it, and the room on the disk."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from metarl import found
from metarl.diagnosis.finding import FAULT, NOTE, OK, Finding, command, summed
from metarl.memory import size
from metarl.runs.directory import RunDirectory, names_in
from metarl.text import printable

SPARE = 16 << 20
"""Bytes that a run needs on the disk beside its checkpoints."""
SHOWN = 3
"""Names that a finding lists."""
HIDDEN = (".*.tmp", ".*.new", ".*.old", ".*.gone", ".*.complete", ".publish.lock")
"""Names of what a killed process leaves."""


def holder(run: RunDirectory) -> str:
    """Returns who holds the run's lock; empty if nobody does."""
    try:
        with found.opened(run.lock) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return ""
            except BlockingIOError:
                line = file.read(200).decode(errors="replace").partition("\n")[0]
                return printable(line) or "another process"
    except OSError:
        return ""


def lock(run: RunDirectory) -> Iterator[Finding]:
    if who := holder(run):
        yield Finding(
            NOTE, "lock", f"in use by {who}", "it may be training; what follows may change"
        )
    else:
        yield Finding(OK, "lock", "no process writes the run")


def leftovers(run: RunDirectory) -> Iterator[Finding]:
    """Yields a note of what a killed process left; harmless, and no business of a running one."""
    evaluated = (run.evaluation_of(name).root for name in names_in(run.evaluation.root))
    folders = (run.root, run.checkpoints, run.replay, *evaluated)
    listed = chain.from_iterable(folder.glob(name) for folder in folders for name in HIDDEN)
    left = list(islice(listed, 100))
    names = ", ".join(str(path.relative_to(run.root)) for path in sorted(left)[:SHOWN])
    notes = []
    if left:
        evaluation = any(run.evaluation.root in path.parents for path in left)
        door = command("evaluate", run.root)
        if not evaluation:
            door = command("train", "--config", run.config)
        text = f"{len(left)} of a stopped process: {names}{', ...' if len(left) > SHOWN else ''}"
        notes = [Finding(NOTE, "leftovers", text, f"the next {door} clears them")]
    yield from summed("leftovers", "none", notes)


def permissions(run: RunDirectory) -> Iterator[Finding]:
    yield from summed("permissions", "the folder can be read and written", _permissions(run))


def _permissions(run: RunDirectory) -> Iterator[Finding]:
    for path in (run.root, run.checkpoints, run.evaluation.root, run.config, run.metrics):
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        needed = os.R_OK | (os.X_OK if stat.S_ISDIR(mode) else 0)
        if not os.access(path, needed):
            yield Finding(FAULT, "permissions", f"{path} may not be read", "`chmod -R u+rX` it")
        elif not os.access(path, os.W_OK):
            other = command("evaluate", run.root, "--out", "FOLDER")
            yield Finding(NOTE, "permissions", f"{path} may not be written", f"{other} only reads")
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            yield Finding(NOTE, "permissions", f"every user may write {path}", "`chmod o-w` it")


def disk(run: RunDirectory) -> Iterator[Finding]:
    """Yields whether another checkpoint fits; while it is written there is one more than kept."""
    free = shutil.disk_usage(run.root).free
    largest = max((_bytes(path) for path in run.checkpoints.glob("[0-9]*")), default=0)
    if free < 2 * largest + SPARE:
        text = f"{size(free)} are free, and a checkpoint takes {size(largest)}"
        yield Finding(FAULT, "disk", text, "make room, or move the run's folder to another disk")
    else:
        yield Finding(OK, "disk", f"{size(free)} are free")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in islice(folder.iterdir(), 10) if path.is_file())
