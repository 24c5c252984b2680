"""Acts at the n-th file event of this process: a file is opened, renamed, made, removed or forced
to the disk.

Python announces the events to audit hooks before they happen, but for fsync, which is wrapped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVENTS = {
    "open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.symlink",
    "os.truncate", "shutil.rmtree",
}  # fmt: skip
_told: list[Callable[[str], None]] = []
"""Functions that are told of each event; a hook cannot be removed."""
_hooked: list[bool] = []


@contextmanager
def file_events(told: Callable[[str], None]) -> Iterator[None]:
    """Calls `told` with the name of each file event in the block, just before it happens."""
    if not _hooked:
        _hooked.append(True)
        sys.addaudithook(lambda event, _: _tell(event) if event in EVENTS else None)
    before = os.fsync

    def fsync(descriptor: int) -> None:
        _tell("os.fsync")
        before(descriptor)
        _tell("after os.fsync")

    os.fsync = fsync
    _told.append(told)
    try:
        yield
    finally:
        _told.remove(told)
        os.fsync = before


def _tell(event: str) -> None:
    for told in list(_told):
        told(event)


@contextmanager
def count_events() -> Iterator[list[str]]:
    """Collects the names of the file events in the block."""
    found: list[str] = []
    with file_events(found.append):
        yield found


@contextmanager
def at_file_event(number: int, action: Callable[[], object]) -> Iterator[list[str]]:
    """Calls `action` just before file event `number` of the block, counted from 1."""
    found: list[str] = []

    def told(event: str) -> None:
        found.append(event)
        if len(found) == number:
            action()

    with file_events(told):
        yield found
