"""Paths of a run's files, and the lock of the process that writes them."""

from __future__ import annotations

import fcntl
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TextIO
from uuid import uuid4
from weakref import WeakSet

from metarl.errors import UserError
from metarl.runs import places
from metarl.runs.files import open_own, sweep
from metarl.text import printable

SPLITS = ("test", "train")
"""Kinds of tasks that a distribution draws."""
UNNAMED = (*SPLITS, "own", "other")
"""Evaluations without a name of the user's: on held-out and on training tasks, on tasks of the
user's own, and on another distribution."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""Names of evaluations. They have no dot, so that no file of metarl's has such a name."""
PROBE = "writable"
"""Name of which `make_writable` writes temporary files."""
PUBLISH_LOCK = ".publish.lock"
"""Lock in the folder of an evaluation, beside hidden folders of `publish.py`."""
MARKER = "run.json"
"""File in a folder of evaluations elsewhere that says of which run they are."""
_HIDDEN = re.compile(r"\.(?:(test|train)|evaluation-(.+))\.(?:new|complete)")


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

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for name, path in vars(self).items() if name != "root")


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
        self.inputs = root / "inputs.json"
        """Inputs of few-shot tasks, and how they are made of raw data."""
        self.metrics = root / "metrics.jsonl"
        """A line per iteration."""
        self.tensorboard = root / "tensorboard"
        self.checkpoints = root / "checkpoints"
        self.replay = root / "replay"
        """Trials that an off-policy agent learns from again."""
        self.evaluation = Evaluation(root / "evaluation")
        """Files of the evaluation on held-out tasks."""
        self.report = root / "report.html"
        self.errors = root / "errors.log"
        """Tracebacks of environments that raised."""
        self.lock = root / ".lock"

    def evaluation_of(self, name: str) -> Evaluation:
        """Files of an evaluation; all but those of held-out tasks, `test`, are in a subfolder."""
        return self.evaluation if name == "test" else Evaluation(self.evaluation.root / name)


def create(root: Path | str) -> RunDirectory:
    """Makes the run's missing folders.

    Raises:
        UserError: if a folder can't be made or written, or holds what `check` refuses.
    """
    run = RunDirectory(root)
    check(run)
    try:
        make_writable(run.root, run.checkpoints, run.evaluation.root)
    except OSError as error:
        raise _cannot_be("written", run, error) from error
    return run


def make_writable(*folders: Path) -> None:
    """Makes folders that are missing, and writes into each; an OSError names one that it cannot."""
    for folder in folders:
        # On network file systems permission bits do not tell enough.
        probe = folder / f".{PROBE}.{uuid4().hex}.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder / PROBE)
            probe.touch(exist_ok=False)  # which follows no link
            probe.unlink(missing_ok=True)  # another process may have swept it
        except OSError as error:
            error.filename = str(folder)
            raise


def check(run: RunDirectory) -> None:
    """Checks that a run's folder, which somebody may have sent, holds what metarl puts there.

    Raises:
        UserError: for a link that leads out of it, and for a pipe or the like in a file's place.
    """
    folders = list(places.numbered(run.checkpoints))
    places.check(
        run.root,
        [run.checkpoints, run.tensorboard, run.replay, *folders],
        [
            *(run.config, run.environment, run.data, run.inputs, run.metrics),
            *(run.report, run.errors, run.lock),
            *places.files_in([*folders, run.replay]),
        ],
    )
    check_evaluations(run.root, run.evaluation)


def check_evaluations(root: Path, evaluation: Evaluation) -> None:
    """Checks the files of evaluations below `root` in the same way."""
    names = names_in(evaluation.root)
    parts = [evaluation, *(Evaluation(evaluation.root / name) for name in names if name != "test")]
    folders = [part.root for part in parts if part.root != root]
    hidden = [
        evaluation.root / hidden_name(name, end) for name in names for end in ("new", "complete")
    ]
    files = chain.from_iterable(part.files for part in parts)
    places.check(root, [*folders, *hidden], [evaluation.root / PUBLISH_LOCK, *files])


def hidden_name(name: str, end: str) -> str:
    """Returns the name of the folder of an evaluation that is being published."""
    return f".{name if name in SPLITS else f'evaluation-{name}'}.{end}"


def names_in(root: Path) -> list[str]:
    """Returns the names of the evaluations in a folder, and of the two splits.

    A folder of another name is one if it holds an adaptation.json, is no link, and is not the
    folder of another run's evaluations. So is one that is being published.
    """
    try:
        listed = sorted(os.listdir(root))
    except OSError:  # there is none, or it may not be read: whoever reads it says so
        listed = []
    found = []
    for entry in listed:
        folder = root / entry
        if (hidden := _HIDDEN.fullmatch(entry)) is not None:
            found.append(hidden[1] or hidden[2])
        elif (
            os.path.lexists(folder / "adaptation.json")
            and not os.path.lexists(folder / MARKER)
            and not folder.is_symlink()
        ):
            found.append(entry)
    return list(dict.fromkeys([*SPLITS, *filter(NAME.fullmatch, found)]))


def is_run(root: Path | str) -> bool:
    """Returns whether a folder is a run's: it has a config and what training writes beside it."""
    run = RunDirectory(root)
    return run.config.is_file() and (run.environment.exists() or run.metrics.exists())


def existing(root: Path | str) -> RunDirectory:
    """Returns the paths of a run that was started before.

    Raises:
        UserError: if there is no run, or if its folder holds what `check` refuses.
    """
    run = RunDirectory(root)
    if not run.root.is_dir():
        raise UserError(f"there is no run directory {run.root}")
    check(run)
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
        descriptor = open_own(run.lock, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    except OSError as error:
        raise _cannot_be("written", run, error) from error
    with open(descriptor, "a+", encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _in_use(run, file) from error
        except OSError as error:
            raise _cannot_be("locked", run, error, "its file system has no locks; ") from error
        _held.add(file)
        for path in (
            run.metrics,
            run.data,
            run.inputs,
            run.report,
        ):  # the others are replaced in any case
            sweep(path)
        file.truncate(0)
        print(f"process {os.getpid()} on {platform.node()}", file=file, flush=True)
        yield


def _in_use(run: RunDirectory, lock: TextIO) -> UserError:
    lock.seek(0)
    holder = printable(lock.read(200).partition("\n")[0])
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
