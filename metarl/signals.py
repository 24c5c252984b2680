"""Signals that end a process, held back while something is written that must be whole.

In a block `with held(...) as stops:` such a signal waits, and is delivered at the block's end. Only
in `stops.interruptible(work)` does it act at once. So an exception that a signal raises comes from
there alone, and no further signal can interrupt what is done about it.

It is decided by the stack of calls, not by a flag: between an exception and its handling there is
no moment at which a flag would be wrong.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals by which terminals and schedulers end a process: Ctrl-C, `kill`, a closed terminal."""


def end_by_exception() -> None:
    """Lets SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does.

    Those that are ignored stay so: `nohup` ignores SIGHUP, a shell Ctrl-C of background jobs.
    """
    for number in ENDING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


class held:  # noqa: N801  a verb's form, as in `with held("..."):`
    """Context in which signals that have handlers in Python wait; nothing in other threads.

    Signals that are ignored, or end the process without Python, stay as they are. When an
    exception leaves the block, those that wait are dropped: the process ends already.
    """

    def __init__(self, what: str):
        """`what` is being done, such as "saving", is said if a second signal comes."""
        self._what = what
        self._before: dict[int, Any] = {}
        """Handlers that the signals have after the block."""
        self._open: FrameType | None = None
        """Frame of `interruptible` while it runs."""
        self._waiting: list[int] = []
        self._came = 0
        self._said = False

    def __enter__(self) -> held:
        if threading.current_thread() is threading.main_thread():
            try:
                for number in ENDING:
                    handler = signal.getsignal(number)
                    if callable(handler):
                        self._before[number] = handler
                        signal.signal(number, self._arrived)
            except BaseException:
                self._restore()
                raise
        return self

    def __exit__(self, kind: Any, *more: Any) -> None:
        self._restore()
        if kind is None:
            for number in self._waiting:
                signal.raise_signal(number)

    def _restore(self) -> None:
        """Gives the signals their handlers back, even if one of them raises meanwhile."""
        try:
            for number, handler in self._before.items():
                signal.signal(number, handler)
        except BaseException:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            raise

    def interruptible(self, work: Callable[[], T]) -> T:
        """Returns `work()`, which signals interrupt, also one that waits."""
        self._open = sys._getframe()
        try:
            while self._waiting:
                number = self._waiting.pop(0)
                self._before[number](number, self._open)
            return work()
        finally:
            self._open = None  # or the frame would hold itself

    def end_at_once(self, code: int) -> None:
        """Drops signals that wait. Further ones, also after the block, end the process with this
        exit code, and without what Python does at its end."""
        self._before = dict.fromkeys(self._before, lambda *_: os._exit(code))
        self._waiting.clear()

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal; `frame` is the call that it interrupted."""
        self._came += 1
        if self._interrupts(frame):
            self._before[number](number, frame)
            return
        self._waiting.append(number)
        if self._what and self._came > 1 and not self._said:
            self._said = True
            _write_error(f"{self._what}; kill -9 ends at once and loses it\n")

    def _interrupts(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame is self._open:
                return True
            frame = frame.f_back
        return False


def _write_error(text: str) -> None:
    """Writes to the error stream from a handler: without its buffer, which the interrupted code
    may be filling, and only if it need not wait for a reader."""
    with suppress(AttributeError, OSError, ValueError):
        descriptor = sys.stderr.fileno()
        if select.select([], [descriptor], [], 0)[1]:
            os.write(descriptor, text.encode())
