"""A run on disk: where its files lie, and who may write them."""

from __future__ import annotations

import fcntl
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from metarl.errors import UserError


@dataclass(frozen=True)
class Evaluation:
    """The files of one evaluation."""

    root: Path

    @property
    def adaptation_json(self) -> Path:
        return self.root / "adaptation.json"

    @property
    def adaptation_csv(self) -> Path:
        return self.root / "adaptation.csv"

    @property
    def adaptation_png(self) -> Path:
        return self.root / "adaptation.png"

    @property
    def success_json(self) -> Path:
        """How much of each class was solved, where tasks have classes."""
        return self.root / "success.json"

    @property
    def success_png(self) -> Path:
        return self.root / "success.png"

    @property
    def predictions_png(self) -> Path:
        """What a few-shot learner predicts in some tasks, where inputs and targets are numbers."""
        return self.root / "predictions.png"


@dataclass(frozen=True)
class RunDirectory:
    """The paths of one run."""

    root: Path

    @property
    def config(self) -> Path:
        """The whole resolved config; `--config` takes it back."""
        return self.root / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions, git commit, machine, threads."""
        return self.root / "environment.json"

    @property
    def metrics(self) -> Path:
        """A line per iteration."""
        return self.root / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def evaluation(self) -> Evaluation:
        """Of the held-out tasks."""
        return Evaluation(self.root / "evaluation")

    def evaluation_of(self, split: str) -> Evaluation:
        """The training tasks' lies within that of the held-out ones."""
        return self.evaluation if split == "test" else Evaluation(self.evaluation.root / split)

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def errors(self) -> Path:
        """Tracebacks of environments that failed."""
        return self.root / "errors.log"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"


def create(root: Path | str) -> RunDirectory:
    """Makes the run's folders where they are missing.

    Raises:
        UserError: where no folder can be made or written.
    """
    run = RunDirectory(Path(root))
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
    """A run that was started before.

    Raises:
        UserError: where there is none.
    """
    run = RunDirectory(Path(root))
    if not run.root.is_dir():
        raise UserError(f"there is no run directory {run.root}")
    if not run.config.is_file():
        raise UserError(f"{run.root} is no run directory: it has no {run.config.name}")
    return run


def _try_writing(folder: Path) -> None:
    """Permission bits say little on network and read-only file systems: trying says it all."""
    probe = folder / f".writable.{os.getpid()}"
    probe.touch()
    probe.unlink()


class Lock:
    """Keeps other processes from writing a run; released by `release`, `with`, or any death.

    The lock is the kernel's (flock), so a killed process leaves none behind. The file stays:
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
        """Lets others in. Again does nothing."""
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


def _let_go_in_child() -> None:
    """A forked worker shares its parent's lock, and would keep it when only the parent dies."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go_in_child)
