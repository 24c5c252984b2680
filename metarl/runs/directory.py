"""Paths of a run's files, and the lock of the process that writes them."""

from __future__ import annotations

import fcntl
import os
import platform
from pathlib import Path

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
        self.root = root = Path(root)
        self.config = root / "config.yaml"
        """The whole resolved config, which `--config` reads."""
        self.environment = root / "environment.json"
        """Versions, git commit, machine, threads."""
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
        for folder in (run.root, run.checkpoints, run.evaluation.root):
            folder.mkdir(parents=True, exist_ok=True)
            _try_writing(folder)
    except OSError as error:
        raise UserError(
            f"the run directory {run.root} cannot be written: {error.strerror}\n"
            "give another place with --run-dir"
        ) from error
    return run


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


def _try_writing(folder: Path) -> None:
    """Writes and removes a file: on network file systems permission bits do not tell enough."""
    probe = folder / f".writable.{os.getpid()}"
    probe.touch()
    probe.unlink()


class Lock:
    """Keeps other processes from writing a run, until `release` or the end of `with`.

    The kernel holds the lock (flock), so it also ends when the process is killed. The file stays:
    removing it would let two processes lock two files of one name.

    Raises:
        UserError: while another process holds it.
    """

    def __init__(self, run: RunDirectory):
        self._descriptor = _open(run.lock)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._descriptor, 200, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise UserError(
                f"the run directory {run.root} is in use by {holder or 'another process'}\n"
                "wait for it, stop it, or give another place with --run-dir"
            ) from error
        except OSError as error:
            os.close(self._descriptor)
            raise UserError(
                f"the run directory {run.root} cannot be locked: {error.strerror}\n"
                "its file system has no locks; give another place with --run-dir"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
        _held.add(self._descriptor)

    def release(self) -> None:
        """Frees the lock; a second call does nothing."""
        if self._descriptor in _held:
            _held.remove(self._descriptor)
            os.close(self._descriptor)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(
            f"the run directory {path.parent} cannot be written: {error.strerror}\n"
            "give another place with --run-dir"
        ) from error


_held: set[int] = set()


def _close_in_child() -> None:
    """Closes the lock in a forked child, which would hold it after the parent's end."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_in_child)
