"""Reads files that may come from anywhere, such as a run's folder that was sent by somebody.

A file is read if it is a regular one of bounded size; a pipe, a device or a folder never is. JSON
is read with a bound on the number of values, because a few bytes make many of them. Whatever is
wrong is one UserError that names the file.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from metarl.errors import UserError
from metarl.text import shown

SMALL = 1 << 20
"""Bytes of a file that somebody wrote or read by hand, such as a config."""
LARGE = 1 << 28
"""Bytes of a file of results."""
VALUES = 4_000_000
"""Values in a JSON document; each takes some 10 to 100 bytes of memory."""
DEPTH = 64
"""Levels of nesting in a JSON document."""


def read(path: Path | str, most: int = SMALL) -> bytes:
    """Returns the contents of a regular file of at most `most` bytes.

    Raises:
        OSError: where there is no such file, or it may not be read.
        UserError: for what is no regular file, and for a larger one.
    """
    with opened(path) as file:
        content = file.read(most + 1)  # and not its stated size, which may be wrong
    if len(content) > most:
        raise UserError(f"{path} has more than the {most:,} bytes that such a file may have")
    return content


@contextmanager
def opened(path: Path | str) -> Iterator[BinaryIO]:
    """Opens a regular file for reading, also one that a link leads to; raises as `read`."""
    if "\0" in str(path):
        raise UserError(f"{shown(str(path))} is no path: it holds a zero byte")
    # Without O_NONBLOCK, opening a pipe that nobody writes waits for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UserError(f"{path} is no regular file; give a file")
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def check_file(path: Path | str, most: int) -> None:
    """Checks, without opening it, that a path leads to a regular file of at most `most` bytes;
    raises as `read`."""
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode):
        raise UserError(f"{path} is no regular file; give a file")
    if about.st_size > most:
        raise UserError(f"{path} has more than the {most:,} bytes that such a file may have")


def read_text(path: Path | str, most: int = SMALL) -> str:
    """Returns the contents of a regular file, which is UTF-8; raises as `read`."""
    try:
        return read(path, most).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}") from None


def json_object(path: Path | str, most: int = SMALL, values: int = VALUES) -> dict[str, Any]:
    """Returns the JSON object in a file; raises as `read` and `parsed`."""
    return parsed(read(path, most), str(path), values)


def parsed(
    content: bytes, place: str, values: int = VALUES, constants: bool = False
) -> dict[str, Any]:
    """Returns the JSON object in `content`, of at most `values` values.

    Raises:
        UserError: for anything else; it names the place. Also for a key that comes twice, and for
            NaN and Infinity, which JSON does not have, unless `constants` are read.
    """
    if count(content) > values:
        raise UserError(f"{place} holds more than the {values:,} values that such a file may have")
    try:
        document = json.loads(
            content, object_pairs_hook=_once, parse_constant=None if constants else _refused
        )
        _check_depth(document, DEPTH)
    except RecursionError:
        raise UserError(f"{place} is nested too deeply; no such file is") from None
    except ValueError as error:
        raise UserError(f"{place} is not JSON: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(document, dict):
        raise UserError(f"{place} holds {shown(document)}, and no JSON object")
    return document


def count(content: bytes) -> int:
    """Returns at least the number of values in JSON, without reading it."""
    # Each value but the first follows one of these; those inside of texts only make it more.
    return sum(map(content.count, (b",", b"[", b"{", b":")))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        before = set()
        twice = next(key for key, _ in pairs if key in before or before.add(key))
        raise ValueError(f"the key {shown(twice)} comes twice")
    return found


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _check_depth(value: Any, left: int) -> None:
    if not left:
        raise RecursionError
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            if isinstance(item, list | dict):
                _check_depth(item, left - 1)
