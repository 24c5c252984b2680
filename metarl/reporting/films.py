"""Films of a run for its page: small ones are part of it, others are linked."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from metarl import found
from metarl.errors import UserError
from metarl.recording.places import facts_of, films_of, strip_of
from metarl.reporting.pages import address, embedded

MOST_FILM = 3 << 20
"""Bytes of a film that becomes part of the page."""
MOST_BYTES = 6 << 20
"""Bytes of all films in a page."""
MOST_FILMS = 12
"""Films that are shown or linked."""
MOST_SAID = 12
"""Tasks or steps that are named beside a film."""
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
        shown.append(Film(path.stem, _about(path), "image", picture, address(path, page)))
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
    """Returns a film's tasks, steps and returns in words, where its facts can be read."""
    path = facts_of(film)
    try:
        if path.is_symlink():
            return ""
        facts = found.json_object(path, values=10_000)
    except (OSError, UserError):
        return ""
    parts = []
    for key, said in (("labels", "task"), ("steps", "adaptation steps")):
        values = facts.get(key)
        if isinstance(values, list) and 0 < len(values) <= MOST_SAID:
            parts.append(f"{said} {', '.join(map(_said, values))}")
    returns = facts.get("returns")
    if isinstance(returns, list) and len(returns) == 1 and isinstance(returns[0], list):
        parts.append(f"return {' → '.join(map(_said, returns[0][:MOST_SAID]))}")
    return "; ".join(parts)


def _said(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)[:60]
