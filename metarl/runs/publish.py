"""Publishes the files of an evaluation as a set: all of them are of one evaluation, or of the next.

    evaluation/.test.new/                  a set that is being written
    evaluation/.test.complete/             a whole set, whose files are being moved to their places
    evaluation/.evaluation-NAME.complete/  the same of the evaluation in evaluation/NAME
    evaluation/.publish.lock               exists while a process publishes, locked by it (flock)

The rename from `.new` to `.complete` decides. Before it the old set stands; after it whoever comes
next moves the remaining files, so a killed process leaves no mixture. In a complete set an empty
file means that the file of its name is to be removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from metarl.errors import UserError
from metarl.runs.directory import (
    MARKER,
    PROBE,
    PUBLISH_LOCK,
    SPLITS,
    RunDirectory,
    hidden_name,
    names_in,
)
from metarl.runs.files import open_own, sweep, sync_folder, write_bytes
from metarl.signals import held

PATIENCE = 30.0
"""Time to wait for another process that publishes, which takes about a second, s."""
LONG_PATIENCE = 600.0
"""Time to wait with results that took hours, s."""
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of file systems that have no locks, as some network ones."""


def publish(run: RunDirectory, name: str, contents: Mapping[str, bytes]) -> None:
    """Replaces the files of an evaluation by those in `contents`; of a split's, the report too.

    Files that `contents` lacks are removed. The caller is within `publishing`. Signals that end the
    process wait for the moment that it takes.

    Args:
        name: `test`, `train`, or that of the folder in the folder of evaluations.
        contents: name of the file -> what is in it, at least a byte.

    Raises:
        UserError: if they cannot be written, as on a full disk. The old files then stay.
    """
    with held("writing the evaluation"):
        _written(run, name, contents)
        _move(run, name)


def _written(run: RunDirectory, name: str, contents: Mapping[str, bytes]) -> None:
    """Writes the files into a complete set."""
    new, complete = _new(run, name), _complete(run, name)
    try:
        new.mkdir()
        for file in _places(run, name):
            write_bytes(new / file, contents.get(file, b""))
        sync_folder(new)
        os.rename(new, complete)
        sync_folder(complete.parent)
    except BaseException as error:
        shutil.rmtree(new, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise UserError(
            f"the evaluation cannot be written to {new.parent}: {error.strerror}\n"
            "the files of the last one stay; give another folder with --out"
        ) from error


def finish(run: RunDirectory) -> None:
    """Completes what a killed process left half-published, and removes what it left half-written.

    Every command that reads or writes evaluations begins with this.

    Raises:
        UserError: if another process publishes for long, or for files that no evaluation has.
    """
    if _pending(run):
        with publishing(run):
            pass


def seen(run: RunDirectory, name: str, path: Path) -> Path:
    """Returns where a file of an evaluation is, if it may be in a set not moved to its place yet.

    A run that is only read cannot be finished.
    """
    moving = _complete(run, name) / path.name
    return moving if moving.is_file() and not moving.is_symlink() else path


@contextmanager
def publishing(run: RunDirectory, patience: float | None = None) -> Iterator[None]:
    """Keeps other processes from publishing evaluations of the run while the block runs.

    It does not need the run's own lock, so that a run can be evaluated while it trains. First it
    finishes what a killed process left. `patience` is the longest wait for another process, s.

    Raises:
        UserError: where the wait was in vain, or there can be no lock.
    """
    lock = run.evaluation.root / PUBLISH_LOCK
    descriptor = _locked(lock, PATIENCE if patience is None else patience)
    try:
        _finish(run)
        yield
    finally:
        # While it is locked: who waits for it then sees that it is another file.
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(lock: Path, patience: float) -> int:
    """Returns the descriptor of the lock's file, which this process now holds."""
    until = time.monotonic() + patience
    while True:
        try:
            descriptor = open_own(lock, os.O_RDWR | os.O_CREAT)
            try:
                _lock(descriptor)
                if os.path.samestat(os.fstat(descriptor), os.lstat(lock)):
                    return descriptor
            except (BlockingIOError, FileNotFoundError):
                time.sleep(0.02)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
        except OSError as error:
            raise UserError(
                f"{lock} cannot be locked: {error.strerror}; give another folder with --out"
            ) from error
        if time.monotonic() > until:
            raise UserError(
                f"{lock.parent} is being written by another process\n"
                "wait for it, or give another folder with --out"
            )


def _lock(descriptor: int) -> None:
    """Locks a file if its file system has locks; a run that was copied to one without can still be
    evaluated there, by one process at a time."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise


def _pending(run: RunDirectory) -> bool:
    hidden = [run.evaluation.root / PUBLISH_LOCK]
    names = names_in(run.evaluation.root)
    hidden += [named(run, name) for name in names for named in (_new, _complete)]
    temporary = [path.parent.glob(f".{path.name}.*.tmp") for path in _swept(run)]
    return any(map(os.path.lexists, hidden)) or any(any(found) for found in temporary)


def _finish(run: RunDirectory) -> None:
    for path in _swept(run):
        sweep(path)
    for name in names_in(run.evaluation.root):
        new = _new(run, name)
        if new.is_dir() and not new.is_symlink():
            shutil.rmtree(new)
        else:
            new.unlink(missing_ok=True)
        if os.path.lexists(_complete(run, name)):
            _move(run, name)


def _move(run: RunDirectory, name: str) -> None:
    """Moves the files of a complete set to their places; what was moved already is not there."""
    folder, places = _complete(run, name), _places(run, name)
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise UserError(f"{folder} is no folder of an evaluation; remove it")
    for source in (folder / name for name in sorted(os.listdir(folder))):
        found = source.lstat()
        if source.name not in places or not stat.S_ISREG(found.st_mode):
            raise UserError(f"{source} is no file of an evaluation; remove {folder}")
        target = places[source.name]
        target.parent.mkdir(exist_ok=True)
        if found.st_size:
            os.replace(source, target)
        else:
            target.unlink(missing_ok=True)
            source.unlink()
    for parent in {target.parent for target in places.values()}:
        with suppress(FileNotFoundError):
            sync_folder(parent)
    folder.rmdir()


def _places(run: RunDirectory, name: str) -> dict[str, Path]:
    """Returns the place of every file that is published with an evaluation, by its name."""
    found = {path.name: path for path in run.evaluation_of(name).files}
    if name in SPLITS:
        found[run.report.name] = run.report
    if run.report.parent != run.root:  # elsewhere it has to be said of which run they are
        found[MARKER] = run.evaluation.root / MARKER
    return found


def _swept(run: RunDirectory) -> list[Path]:
    """Returns the files of whose names killed processes may have left temporary ones."""
    found = [path for name in names_in(run.evaluation.root) for path in _places(run, name).values()]
    return [*found, *(folder / PROBE for folder in {path.parent for path in found})]


def _new(run: RunDirectory, name: str) -> Path:
    return run.evaluation.root / hidden_name(name, "new")


def _complete(run: RunDirectory, name: str) -> Path:
    return run.evaluation.root / hidden_name(name, "complete")
