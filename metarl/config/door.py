"""Runs a command from a shell: its streams, the signals that end it, and its errors in one line."""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from metarl.errors import UserError
from metarl.limits import within_the_machine
from metarl.signals import end_by_exception, held
from metarl.text import printable, say

STOPPED = 130
"""Exit code after Ctrl-C, SIGTERM or SIGHUP."""


def open_door(door: Callable[[Sequence[str]], object], when_stopped: str = "") -> None:
    """Runs a command's `main` on the command line and prints a user's errors without traceback."""
    _keep_streams()
    warnings.formatwarning = _one_line
    warnings.filterwarnings("always", module=r"metarl\.")  # repeated ones too, as for lost workers
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it can do without a home or a cache
    end_by_exception()
    with held("") as stops:  # signals interrupt the command, and not what is said about its end
        code = _exit_code(partial(stops.interruptible, partial(_opened, door)), when_stopped)
        if code == STOPPED:  # what Python does at its end may be interrupted, without a traceback
            stops.end_at_once(code)
        if code:
            sys.exit(code)


def _opened(door: Callable[[Sequence[str]], object]) -> None:
    with within_the_machine():
        door(sys.argv[1:])
    sys.stdout.flush()  # a full disk is an error, also where it shows at the end


def _exit_code(command: Callable[[], Any], when_stopped: str) -> int:
    """Returns the exit code of a command, whose error is told."""
    try:
        command()
    except UserError as error:
        _tell(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        _tell("\nstopped" + (f": {when_stopped}" if when_stopped else ""))
        return STOPPED
    except BrokenPipeError:  # the reader of our output ended, as `| head` does
        _give_up(sys.stdout)
        return 1
    except OSError as error:  # such as a full disk, a read-only folder or a deleted file
        _tell(f"error: {_place(error)}: {error.strerror or error}")
        with suppress(OSError):
            sys.stdout.flush()
            return 2
        _give_up(sys.stdout)
        return 2
    return 0


def _place(error: OSError) -> str:
    """Returns the file that an error is about, or else the output, whose errors name none."""
    if error.filename is None:
        return "standard output"
    return os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "a file"


def _tell(line: str) -> None:
    """Writes to the error stream; without one, as on a full disk, the exit code tells alone."""
    try:
        say(line, error=True)
    except (OSError, ValueError):
        _give_up(sys.stderr)


def _give_up(stream: Any) -> None:
    """Lets what is still to be written to a stream go nowhere, or Python fails at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _keep_streams() -> None:
    """Opens streams that are closed, and lets all show letters that their encoding lacks.

    The first files that a process opens would take the numbers of closed streams. Libraries that
    write to a stream would then write into such a file.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # another object may stand in for a stream
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore


def _one_line(message: Warning | str, *place: object, **more: object) -> str:
    """Returns a warning in one line, without the source line that raised it."""
    return f"warning: {printable(str(message))}\n"
