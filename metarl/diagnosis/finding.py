"""A finding of a check of a run's folder: what was looked at, what is so, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from shlex import quote
from typing import NamedTuple

OK, NOTE, FAULT = "ok", "note", "fault"


class Finding(NamedTuple):
    mark: str
    """OK; NOTE for what a user may want to know; FAULT for what is lost, wrong or in the way."""
    part: str
    """Part of the run, such as "checkpoints"."""
    text: str
    remedy: str = ""
    """Remedy, with its command."""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.mark:<6} {self.part}: {' '.join(f'{self.text}{remedy}'.split())}"


def summed(part: str, text: str, found: Iterable[Finding]) -> Iterator[Finding]:
    """Yields findings; if there are none, that all is well with the part."""
    worst = False
    for finding in found:
        worst = True
        yield finding
    if not worst:
        yield Finding(OK, part, text)


def command(door: str, *words: str | Path) -> str:
    """Returns a command in backquotes, such as `metarl evaluate runs/mine`."""
    return f"`metarl {door} {' '.join(quote(str(word)) for word in words)}`"


def removal(path: Path, folder: bool = False) -> str:
    """Returns the command that removes a file or a folder."""
    return f"`rm {'-r ' if folder else ''}{quote(str(path))}`"
