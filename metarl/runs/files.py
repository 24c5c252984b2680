"""Writes files so that a crash leaves either the old content or the new."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file and forces it to the disk; use it only where nobody reads the file yet."""
    with naming(path), open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def append_bytes(path: Path, content: bytes) -> None:
    """Adds to a file's end and forces it to the disk; what is only half written is removed."""
    with naming(path), open(path, "ab", buffering=0) as file:
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
    """Replaces the file's content in one step."""
    # Two evaluations of one run, or two machines that share a cache, write different files.
    beside = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    with naming(path):
        try:
            write_bytes(beside, content)
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def replace_text(path: Path, text: str) -> None:
    """Replaces the file's content by `text`, as UTF-8, in one step."""
    replace_bytes(path, text.encode())


def sync_folder(folder: Path) -> None:
    """Forces a folder's entries to the disk, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
