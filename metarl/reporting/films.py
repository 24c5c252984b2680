"""Films of a run for its page: small ones are part of it, others are linked."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from markupsafe import Markup

from metarl import found
from metarl.errors import UserError
from metarl.recording.places import facts_of, films_of, strip_of
from metarl.reporting.pages import embedded

MOST_FILM = 3 << 20
"""Bytes of a film that becomes part of the page."""
MOST_BYTES = 6 << 20
"""Bytes of all films in a page."""
MOST_FILMS = 12
"""Films that are shown or linked."""
KINDS = {".gif": ("image", "image/gif"), ".mp4": ("video", "video/mp4")}
"""End of a film's name -> the element that shows it, and its media type."""
PNG = b"\x89PNG\r\n\x1a\n"
"""First bytes of every PNG file."""


class Film(NamedTuple):
    """A film on the page."""

    name: str
    about: str
    """Facts beside the name; empty if there are none."""
    kind: str
    """"image" or "video"."""
    source: Markup
    """The film, or a picture of its frames where it is large; empty if there is neither."""
    link: str
    """Address of the film relative to the page, where it is no part of it; else empty."""


def films(run: Path, page: Path) -> list[Film]:
    """Returns the films in a run's folder, for a page at `page`.

    What is no GIF and no MP4, whatever its name, is left out.
    """
    shown, left = [], MOST_BYTES
    for path in films_of(run)[:MOST_FILMS]:
        kind, media = KINDS[path.suffix]
        head = _head(path)
        if not (head[4:8] == b"ftyp" if kind == "video" else head.startswith(b"GIF8")):
            continue
        content = _content(path, min(left, MOST_FILM))
        if content:
            left -= len(content)
            shown.append(Film(path.stem, _about(path), kind, embedded(content, media), ""))
            continue
        strip = _content(strip_of(path), min(left, MOST_FILM))
        strip = strip if strip.startswith(PNG) else b""
        left -= len(strip)
        picture = embedded(strip) if strip else Markup()
        shown.append(Film(path.stem, _about(path), "image", picture, _address(path, page)))
    return shown


def _head(path: Path) -> bytes:
    try:
        with found.opened(path) as file:
            return file.read(12)
    except (OSError, UserError):
        return b""


def _content(path: Path, most: int) -> bytes:
    """Returns a file's contents; nothing if it is larger, or cannot be read."""
    try:
        return b"" if path.is_symlink() else found.read(path, most)
    except (OSError, UserError):
        return b""


def _about(film: Path) -> str:
    """Returns the tasks and steps of a film in words, where its facts can be read."""
    path = facts_of(film)
    try:
        if path.is_symlink():
            return ""
        facts = found.json_object(path, values=10_000)
    except (OSError, UserError):
        return ""
    tasks, steps = facts.get("tasks"), facts.get("steps")
    parts = (
        [f"{len(tasks)} task{'s' if len(tasks) != 1 else ''}"] if isinstance(tasks, list) else []
    )
    if isinstance(steps, list) and steps and all(type(step) is int for step in steps[:20]):
        parts.append(f"after {', '.join(map(str, steps[:20]))} adaptation steps")
    return ", ".join(parts)


def _address(film: Path, page: Path) -> str:
    """Returns a film's address relative to the page, with what is special in addresses escaped."""
    relative = os.path.relpath(film.resolve(), page.resolve().parent)
    return PurePosixPath("/", relative).as_uri().removeprefix("file:///")
