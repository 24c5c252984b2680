"""Writes files so that a crash leaves either the old content or the new, and follows no link.

A folder that was sent by somebody may hold a link or a pipe where a file is expected. What is
opened here for writing is a regular file that lies where its path says, or nothing is written.
"""

from __future__ import annotations

import fcntl
import glob
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from metarl.errors import UserError

NEW = os.O_CREAT | os.O_EXCL
"""Flags of `open_own` for a file that must not be there yet; a link of that name is refused."""


def open_own(path: Path, flags: int) -> int:
    """Opens a regular file for writing and returns its descriptor.

    Raises:
        OSError: where it cannot be opened, or with `NEW` is there already.
        UserError: for a symbolic link, and for what is no regular file, at which it never waits.
    """
    if path.is_symlink() and not flags & os.O_EXCL:
        raise UserError(f"{path} is a symbolic link; replace it by the file, or remove it")
    never_waits = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags | never_waits, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path} is no regular file; remove it")
    return descriptor


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file that is not there yet, and forces it to the disk."""
    with naming(path), open(open_own(path, os.O_WRONLY | NEW), "wb") as file:
        _force(file, content)


def _force(file: BinaryIO, content: bytes) -> None:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def append_bytes(path: Path, content: bytes) -> None:
    """Adds to a file's end and forces it to the disk; what is only half written is removed."""
    descriptor = open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with naming(path), open(descriptor, "ab", buffering=0) as file:
        before = os.fstat(file.fileno()).st_size
        try:
            left = memoryview(content)
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(before)
            raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Names the file in an error of the system, which says only what is wrong, as a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def replace_bytes(path: Path, content: bytes) -> None:
    """Replaces the file's content in one step; removes what killed processes left of earlier
    tries."""
    sweep(path)
    with naming(path):
        beside, file = _beside(path)
        try:
            with file:
                _force(file, content)
                os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def _beside(path: Path) -> tuple[Path, BinaryIO]:
    """Opens a new temporary file beside a file, and locks it against `sweep`."""
    while True:
        # Two evaluations of one run, or two machines that share a cache, write different files.
        beside = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
        file = open(open_own(beside, os.O_WRONLY | NEW), "wb")  # noqa: SIM115  closed by the caller
        with suppress(OSError):  # a file system without locks: nobody sweeps it then
            fcntl.flock(file, fcntl.LOCK_EX)
        if beside.exists():  # and was not swept before it was locked
            return beside, file
        file.close()


def replace_text(path: Path, text: str) -> None:
    """Replaces the file's content by `text` in one step."""
    replace_bytes(path, encoded(text))


def encoded(text: str) -> bytes:
    """Returns a text as UTF-8; an undecodable byte of a file's name in it is escaped."""
    return text.encode(errors="backslashreplace")


def sweep(path: Path) -> None:
    """Removes temporary files of this file's name whose writers were killed.

    A writer locks its file (flock) as long as it writes, so a free one has no writer.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError, UserError):  # a folder that is only read, or no file of ours
            descriptor = open_own(left, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()
            finally:
                os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Forces a folder's entries to the disk, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
