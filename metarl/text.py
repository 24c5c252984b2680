"""Text that is safe to show, whatever a file's name or contents put into it."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that a terminal obeys or cannot show: control and formatting characters,
bytes of no encoding (lone surrogates), private and unassigned ones, line separators."""


def printable(text: str) -> str:
    """Returns the text with everything that is not shown as itself escaped, as `\\x1b`.

    Newlines and tabs stay. An undecodable byte of a file's name is shown as that byte.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    if char in "\n\t" or unicodedata.category(char) not in HIDDEN:
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode keeps an undecodable byte so
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else (
        f"\\U{code:08x}"
    )  # fmt: skip


def shown(value: Any, most: int = 60) -> str:
    """Returns a value for an error message: its repr in one printable line of `most` characters."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"a whole number of some {int(value.bit_length() * 0.30103) + 1} digits"
    if isinstance(value, str | bytes):
        value = value[: most + 1]  # the repr of a long text costs its length
    elif isinstance(value, list | tuple | set | frozenset | dict) and len(value) > most:
        return f"{type(value).__name__} of {len(value)} items"
    try:
        text = " ".join(printable(repr(value)).split())
    except (ValueError, RecursionError):  # huge numbers inside, or too deep
        text = f"a {type(value).__name__}"
    return text if len(text) <= most else text[: most - 3] + "..."


_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def quiet(wanted: bool = True) -> Iterator[None]:
    """Lets `say` print nothing on the output while the block runs; errors are still printed."""
    before = _quiet.set(wanted)
    try:
        yield
    finally:
        _quiet.reset(before)


def is_quiet() -> bool:
    """Returns whether nothing is to be shown but errors."""
    return _quiet.get()


def say(*parts: object, error: bool = False) -> None:
    """Prints a line that is safe on any terminal; `error` is for the error stream."""
    if is_quiet() and not error:
        return
    stream = sys.stderr if error else sys.stdout
    print(writable(" ".join(map(str, parts)), stream), file=stream, flush=True)


def writable(text: str, stream: Any) -> str:
    """Returns printable text with escapes for letters that the stream's encoding does not have, as
    that of a terminal of an old locale."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return printable(text).encode(encoding, "backslashreplace").decode(encoding)
