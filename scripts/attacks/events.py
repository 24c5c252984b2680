"""Acts at a chosen file event of this process: before the n-th change of a file or a folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

CHANGES = {
    "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.symlink", "os.truncate",
    "shutil.rmtree",
}  # fmt: skip
"""Audit events that change the disk; `open` does where it is for writing."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def watch(act: Callable[[int, str], None], under: str = "") -> None:
    """Calls `act(number, what)` before each file event below the folder `under`, from 1.

    An event is a change of a file or a folder, or a file that is forced to the disk. The hook
    stays until the process ends.
    """
    number = 0

    def event(what: str) -> None:
        nonlocal number
        number += 1
        act(number, what)

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING and _inside(path, under):
                event(f"open {path}")
        elif name in CHANGES and _inside(arguments[0], under):
            event(f"{name} {arguments[0]}")

    sys.addaudithook(hook)
    force = os.fsync

    def fsync(descriptor: int) -> None:
        event("fsync")
        force(descriptor)

    os.fsync = fsync


def _inside(path: object, under: str) -> bool:
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(under)
