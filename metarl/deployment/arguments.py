"""Checks of what a caller gives: counts, step sizes and paths. This module needs no torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from metarl.errors import UserError
from metarl.text import shown


def count(name: str, value: Any, least: int = 1) -> int:
    """Returns a whole number of at least `least`.

    Raises:
        UserError: for anything else; it names `name`.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise UserError(f"{name} is {shown(value)}; give a whole number, at least {least}")
    return int(value)


def positive(name: str, value: Any) -> float:
    """Returns a finite number above zero.

    Raises:
        UserError: for anything else; it names `name`.
    """
    real = isinstance(value, int | float | np.integer | np.floating)
    if isinstance(value, bool) or not real or not 0 < value <= np.finfo(np.float32).max:
        raise UserError(f"{name} is {shown(value)}; give a number above 0")
    return float(value)


def is_distribution(value: Any) -> bool:
    """Returns whether a value looks like a distribution of tasks, a user's own class included."""
    return all(hasattr(value, name) for name in ("spec", "sample", "open"))


def place(value: Any, what: str) -> Path:
    """Returns a path, with ~ replaced by the home folder.

    Raises:
        UserError: for what is no path; it names `what`.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise UserError(f"the path of {what} is {shown(value)}; give a folder, such as 'mine'")
    return Path(text).expanduser()
