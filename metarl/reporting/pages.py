"""Makes pages of HTML that stand alone: a browser that shows one makes no request.

Names, settings and numbers come from files that somebody may have sent, and pages are shared. So
all that is put into a page is escaped, printable and of bounded length. A policy in the page's head
lets a browser load nothing, and run no script but the page's own, which it knows by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2
from markupsafe import Markup

from metarl.text import printable

MOST_TEXT = 2000
"""Characters of a name or a value."""
MOST_ROWS = 1000
"""Rows of a table."""
NUMBER = re.compile(r"[-\u2212]?[\d.]|not finite$")
"""Beginning of a cell with a number."""


def filled(template: str, name: str, head: str = "", **values: Any) -> str:
    """Returns a page.

    Args:
        template: file in the folder `templates`.
        name: title of the page.
        head: more HTML for the page's head, which is metarl's own.
        values: what the template shows.
    """
    usual: dict[str, Any] = {"subtitle": "", "sections": [], "facts": []}
    parts = {
        "name": name,
        "head": Markup(head),
        "style": Markup(_file("page.css")),
        "script": Markup(_file("page.js")),
        "policy": Markup(_policy()),
    }
    return _templates().get_template(template).render(usual | values | parts)


def some(rows: list[Any]) -> list[Any]:
    """Returns the first rows of a long table, and how many are left out."""
    if len(rows) <= MOST_ROWS:
        return rows
    return [*rows[:MOST_ROWS], (f"... and {len(rows) - MOST_ROWS:,} more rows", "")]


def embedded(content: bytes, kind: str = "image/png") -> Markup:
    """Returns a file's contents as an address that needs no request."""
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode()}")


def address(file: Path, page: Path) -> str:
    """Returns a file's address relative to a page, with what is special in addresses escaped."""
    relative = os.path.relpath(file.resolve(), page.resolve().parent)
    return PurePosixPath("/", relative).as_uri().removeprefix("file:///")


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Flattens nested mappings to dotted keys and values."""
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found


def bounded(value: Any) -> Any:
    """Returns what is put into a page for a value; our own HTML stays as it is."""
    if isinstance(value, Markup):
        return value
    text = value if isinstance(value, str) else str(value)
    return printable(text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}...")


def words(rows: Sequence[Sequence[str]]) -> set[int]:
    """Returns the columns of a table that hold words, and not numbers."""
    return {
        place
        for row in rows
        for place, cell in enumerate(row)
        if cell and not NUMBER.match(str(cell)[:40])
    }


@lru_cache
def _templates() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=bounded,
    )
    found.filters["words"] = words
    return found


@lru_cache
def _file(name: str) -> str:
    folder = resources.files("metarl.reporting").joinpath("templates")
    return folder.joinpath(name).read_text(encoding="utf-8")


def _policy() -> str:
    """Returns the Content-Security-Policy of every page."""
    style, script = (_digest(_file(name)) for name in ("page.css", "page.js"))
    return (
        f"default-src 'none'; img-src data:; media-src data:; style-src '{style}'; "
        f"script-src '{script}'; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
