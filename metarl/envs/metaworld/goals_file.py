"""A file of arrays that is believed only if it is whole, of what was asked for, and one's own.

Its first line has a SHA-256 over what the arrays were made from and over the arrays. The rest is
an .npz archive of them.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from pathlib import Path

import numpy as np

from metarl import found
from metarl.errors import UserError
from metarl.runs.files import replace_bytes

START = b"metarl goals SHA-256 "
LARGEST = 1 << 28
"""Bytes of a file; that of ML45 has 30 MB."""


def write(path: Path, made_from: bytes, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays in one step; a new folder is its owner's alone. Raises OSError."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # pyright: ignore[reportArgumentType]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_bytes(path, _first_line(made_from, content.getvalue()) + content.getvalue())


def read(path: Path, made_from: bytes, goals: int) -> dict[str, np.ndarray]:
    """Returns the arrays [goals, ...] that `write` wrote.

    Raises:
        FileNotFoundError, NotADirectoryError: where there is no file.
        Exception: of any kind, for a file that is not believed.
    """
    with found.opened(path) as file:
        _check_owner(os.fstat(file.fileno()))
        content = file.read(LARGEST + 1)
    line, _, rest = content.partition(b"\n")
    if line + b"\n" != _first_line(made_from, rest):
        raise UserError("its content is not what was written there")
    with np.load(io.BytesIO(rest), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name, array in arrays.items():
        if array.dtype.kind != "f" or array.shape[:1] != (goals,):
            raise UserError(f"{name} is {array.dtype} {array.shape}")
    return arrays


def _check_owner(about: os.stat_result) -> None:
    """Checks that nobody else may have written the file; root could change anything anyway."""
    if about.st_uid not in (os.geteuid(), 0):
        raise UserError(f"it belongs to user {about.st_uid}")
    if about.st_mode & stat.S_IWOTH:
        raise UserError("every user may write it")


def _first_line(made_from: bytes, content: bytes) -> bytes:
    digest = hashlib.sha256(made_from + b"\n" + content).hexdigest()
    return START + digest.encode() + b"\n"
