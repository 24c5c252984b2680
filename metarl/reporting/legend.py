"""Legends of charts, as lists of HTML: they wrap on a narrow screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from markupsafe import Markup, escape

from metarl.reporting.svg import Mark, swatch
from metarl.text import printable

Entry: TypeAlias = tuple[str, str, Mark]
"""Name, classes of its look, and mark of a line."""
MOST_NAME = 80
"""Characters of a name in a legend."""


def legend(entries: Sequence[Entry], bands: str = "") -> Markup:
    """Returns a legend of lines.

    Args:
        entries: the lines.
        bands: the meaning of the bands, if there are any.
    """
    items = [f"<li>{swatch(look, mark)}{_name(name)}</li>" for name, look, mark in entries]
    if bands:
        items.append(f"<li>{swatch('grey', band=True)}{_name(bands)}</li>")
    return Markup(f'<ul class="legend">{"".join(items)}</ul>')


def _name(name: str) -> str:
    text = printable(name)
    if len(text) > MOST_NAME:
        end = MOST_NAME // 2 - 2
        text = f"{text[:end]}...{text[-end:]}"
    return str(escape(text))
