"""Paths of a run's files, and the lock of the process that writes them."""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO
from weakref import WeakSet

from metarl.errors import UserError


class Evaluation:
    """Paths of one evaluation's files."""

    def __init__(self, root: Path):
        self.root = root
        self.adaptation_json = root / "adaptation.json"
        self.adaptation_csv = root / "adaptation.csv"
        self.adaptation_png = root / "adaptation.png"
        self.success_json = root / "success.json"
        """Success rates by class; exists if the tasks have classes."""
        self.success_png = root / "success.png"
        self.predictions_png = root / "predictions.png"
        """Predictions of a few-shot learner; exists if inputs and targets are single numbers."""


class RunDirectory:
    """Paths of one run's files."""

    def __init__(self, root: Path | str):
        self.root = root = Path(root).expanduser()
        self.config = root / "config.yaml"
        """The whole resolved config, which `--config` reads."""
        self.environment = root / "environment.json"
        """Versions, git commit, machine, threads."""
        self.data = root / "data.json"
        """Hash and places of a user's own data."""
        self.metrics = root / "metrics.jsonl"
        """A line per iteration."""
        self.tensorboard = root / "tensorboard"
        self.checkpoints = root / "checkpoints"
        self.evaluation = Evaluation(root / "evaluation")
        """Files of the evaluation on held-out tasks."""
        self.report = root / "report.html"
        self.errors = root / "errors.log"
        """Tracebacks of environments that raised."""
        self.lock = root / ".lock"

    def evaluation_of(self, split: str) -> Evaluation:
        """Files of a split's evaluation; those of training tasks are in a subfolder."""
        return self.evaluation if split == "test" else Evaluation(self.evaluation.root / split)


def create(root: Path | str) -> RunDirectory:
    """Makes the run's missing folders.

    Raises:
        UserError: if a folder can't be made or written.
    """
    run = RunDirectory(root)
    try:
        make_writable(run.root, run.checkpoints, run.evaluation.root)
    except OSError as error:
        raise _cannot_be("written", run, error) from error
    return run


def make_writable(*folders: Path) -> None:
    """Makes folders that are missing, and writes into each; an OSError names one that it cannot."""
    for folder in folders:
        # On network file systems permission bits do not tell enough.
        probe = folder / f".writable.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            error.filename = str(folder)
            raise


def is_run(root: Path | str) -> bool:
    """Returns whether a folder is a run's: it has a config and what training writes beside it."""
    run = RunDirectory(root)
    return run.config.is_file() and (run.environment.exists() or run.metrics.exists())


def existing(root: Path | str) -> RunDirectory:
    """Returns the paths of a run that was started before.

    Raises:
        UserError: if there is no run.
    """
    run = RunDirectory(root)
    if not run.root.is_dir():
        raise UserError(f"there is no run directory {run.root}")
    if not run.config.is_file():
        raise UserError(f"{run.root} is no run directory: it has no {run.config.name}")
    return run


@contextmanager
def locked(run: RunDirectory) -> Iterator[None]:
    """Keeps other processes from writing the run while the block runs.

    The kernel holds the lock (flock), so it also ends when the process is killed. The file stays:
    removing it would let two processes lock two files of one name.

    Raises:
        UserError: while another process holds it.
    """
    try:
        file = open(run.lock, "a+", encoding="utf-8")  # noqa: SIM115  closed below
    except OSError as error:
        raise _cannot_be("written", run, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _in_use(run) from error
        except OSError as error:
            raise _cannot_be("locked", run, error, "its file system has no locks; ") from error
        _held.add(file)
        file.truncate(0)
        print(f"process {os.getpid()} on {platform.node()}", file=file, flush=True)
        yield


def _in_use(run: RunDirectory) -> UserError:
    holder = run.lock.read_text(encoding="utf-8", errors="replace").strip()
    return UserError(
        f"the run directory {run.root} is in use by {holder or 'another process'}\n"
        "wait for it, stop it, or give another place with --run-dir"
    )


def _cannot_be(done: str, run: RunDirectory, error: OSError, why: str = "") -> UserError:
    return UserError(
        f"the run directory {run.root} cannot be {done}: {error.strerror}\n"
        f"{why}give another place with --run-dir"
    )


_held: WeakSet[TextIO] = WeakSet()


def _close_in_child() -> None:
    """Closes the lock in a forked child, which would hold it after the parent's end."""
    for file in _held:
        file.close()


os.register_at_fork(after_in_child=_close_in_child)
