"""Checks that what lies in a run's folder is what metarl puts there.

The folder may have been sent by somebody. A link in it to a file elsewhere would be read into a
report, or be overwritten; a pipe would be waited at for ever. The folder itself may be reached by
links, since its user named it, and links that stay inside of it are no harm. A hard link cannot be
told from a file, and is not looked for. Files of other names are the user's own: metarl neither
reads nor writes them.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from metarl.errors import UserError

HALF_WRITTEN = re.compile(r"\..*\.(new|old|gone)")
"""Names of folders of checkpoints that are being written or removed."""
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check(root: Path, folders: Iterable[Path], files: Iterable[Path]) -> None:
    """Checks that paths below `root` are missing, or folders and files in it.

    Raises:
        UserError: for a path that leads out of `root`, to nothing, or to something else.
    """
    inside = os.path.realpath(root)
    for path in folders:  # before the files in them
        _check(path, inside, "a folder")
    for path in files:
        _check(path, inside, "a file")


def numbered(checkpoints: Path) -> Iterator[Path]:
    """Yields the folders of checkpoints, also hidden ones, which a killed process left."""
    for path in _listed(checkpoints):
        if path.name.isdigit() or HALF_WRITTEN.fullmatch(path.name):
            yield path


def files_in(folders: Iterable[Path]) -> Iterator[Path]:
    """Yields everything in some folders but folders."""
    for folder in folders:
        yield from (path for path in _listed(folder) if path.is_symlink() or not path.is_dir())


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # there is none, or it may not be read: whoever reads it says so
        return []


def _check(path: Path, inside: str, expected: str) -> None:
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            target = os.path.realpath(path)
            if os.path.commonpath([target, inside]) != inside:
                raise UserError(
                    f"{path} is a link to {target}, outside of the folder {inside}\n"
                    "replace the link by what it leads to, or remove it"
                )
            if not os.path.exists(path):
                raise UserError(f"{path} is a link to {target}, which is not there; remove it")
            mode = os.stat(path).st_mode
    except OSError:  # there is nothing, or it may not be read: whoever reads it says so
        return
    found = next((name for is_one, name in KINDS if is_one(mode)), "something else")
    if found != expected:
        raise UserError(f"{path} is {found}, and {expected} belongs there; remove it")
