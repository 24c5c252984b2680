"""Files that a crash leaves whole: the old content or the new, never half of either."""

from __future__ import annotations

import os
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file and forces it to the disk; no rename, so for a place nobody reads yet."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_bytes(path: Path, content: bytes) -> None:
    """Puts `content` in the place of `path` in one step."""
    # Named by the process, so that two evaluations of one run can't write into each other's.
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_bytes(beside, content)
        os.replace(beside, path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def replace_text(path: Path, text: str) -> None:
    """Puts `text`, as UTF-8, in the place of `path` in one step."""
    replace_bytes(path, text.encode())


def sync_folder(folder: Path) -> None:
    """Forces a folder's entries to the disk: what a rename in it needs to outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
