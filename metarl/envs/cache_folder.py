"""The folder in which metarl keeps data that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Returns the folder for derived data: $METARL_CACHE, or metarl in the user's cache folder.

    None for a user without a home, such as an arbitrary number in a container.
    """
    if named := os.environ.get("METARL_CACHE"):
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "metarl"
    except RuntimeError:
        return None
