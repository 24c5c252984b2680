"""Runs metarl's commands in forked processes: imports are paid once, and each try takes a moment.

A process that forks must have no threads, so it never computes with torch itself. It forks lanes,
one for each core, that take the tries by turns; a lane forks a process for each try.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

Try = TypeVar("Try")

HEAVY = (
    "torch.utils.tensorboard.writer", "sklearn.datasets", "matplotlib.pyplot",
    "metarl.loop.training", "metarl.loop.evaluation",
    "metarl.commands.train", "metarl.commands.evaluate",
    "metarl.commands.report", "metarl.commands.doctor",
)  # fmt: skip
"""Modules that a command would import before its work."""
LONGEST = 120.0
"""Seconds after which a try is ended and counted as hung."""
ends_at: list[float] = []
"""Time by the monotonic clock after which no further try begins, if there is one."""


class Ended(NamedTuple):
    """End of a command."""

    code: int
    """Its exit code, or minus the signal that killed it; 999 if it hung."""
    said: str
    """Its output and its error output."""
    seconds: float
    peak_mb: float
    """Largest memory that it had resident, what it shares with its parent included."""


def load() -> None:
    """Imports what the commands need."""
    for module in HEAVY:
        importlib.import_module(module)


def call(
    door: str,
    argv: Sequence[str | Path],
    log: Path,
    before: Callable[[], object] = lambda: None,
    after_s: float | None = None,
    longest: float = LONGEST,
) -> Ended:
    """Runs `python -m metarl.DOOR ARGV` in a forked process.

    Args:
        log: file for its output.
        before: is called in the process first, such as to arm it with a fault.
        after_s: seconds after which it is killed.
    """
    started = time.monotonic()
    child = os.fork()
    if not child:
        _become(door, argv, log, before)
    deadline = started + (longest if after_s is None else min(after_s, longest))
    ended = _wait(child, deadline)
    hung = ended is None and after_s is None
    if ended is None:
        end_group(child)
        ended = os.wait4(child, 0)
    else:
        end_group(child)
    _, status, usage = ended
    seconds = time.monotonic() - started
    said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    code = 999 if hung else os.waitstatus_to_exitcode(status)
    return Ended(code, said, seconds, usage.ru_maxrss / 1024)


def _become(door: str, argv: Sequence[str | Path], log: Path, before: Callable[[], object]) -> None:
    """Runs a command in this process, which ends with it."""
    code = 1
    try:
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for ending in (signal.SIGTERM, signal.SIGHUP):  # which `nohup` ignores
            signal.signal(ending, signal.SIG_DFL)
        module = importlib.import_module(f"metarl.commands.{door}")
        shell = importlib.import_module("metarl.config.door")
        sys.argv = [f"metarl.{door}", *map(str, argv)]
        before()
        shell.open_door(module.main)
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _wait(child: int, deadline: float) -> tuple[int, int, resource.struct_rusage] | None:
    pause = 0.001
    while time.monotonic() < deadline:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            return pid, status, usage
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
    return None


def end_group(leader: int) -> None:
    """Kills the processes that a command left, such as workers, and itself."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def in_lanes(tries: Sequence[Try], work: Callable[[Try, Path], Any], place: Path) -> list[Any]:
    """Returns `work(try, folder)` of each try, in order; lanes take them by turns.

    A try for which there was no time gives None. Results have to be what JSON stores. `folder` is
    empty and the try's own.

    Raises:
        RuntimeError: where a lane failed; it holds its traceback.
    """
    lanes = min(len(os.sched_getaffinity(0)), len(tries))
    readers = []
    for lane in range(lanes):
        reader, writer = os.pipe()
        if not os.fork():
            os.close(reader)
            _lane(tries, work, place / f"lane{lane}", slice(lane, None, lanes), writer)
        os.close(writer)
        readers.append(reader)
    found: list[Any] = [None] * len(tries)
    for lane, reader in enumerate(readers):
        with open(reader, "rb") as file:
            answer = json.loads(file.read() or b'{"failed": "a lane died"}')
        os.wait()
        if isinstance(answer, dict):
            raise RuntimeError(answer["failed"])
        found[lane::lanes] = answer
    return found


def _lane(
    tries: Sequence[Try], work: Callable[[Try, Path], Any], place: Path, own: slice, writer: int
) -> None:
    answer: Any
    try:
        answer = []
        for number, each in enumerate(tries[own]):
            if ends_at and time.monotonic() > ends_at[0]:
                answer.append(None)
                continue
            folder = place / f"{number}"
            folder.mkdir(parents=True, exist_ok=True)
            answer.append(work(each, folder))
    except BaseException:
        answer = {"failed": traceback.format_exc()}
    with open(writer, "wb") as file:
        file.write(json.dumps(answer).encode())
    os._exit(0)
