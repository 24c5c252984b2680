"""Reads and writes data.json: a hash of the data that a run learned from, and where they lay.

Data are compared by their contents, since they and the run may be moved. For a file the hash is
that of `sha256sum FILE`. For a folder it is the SHA-256 of the lines that `sha256sum` prints of its
files, which are named relative to the folder and sorted by name.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from metarl import found as found_file
from metarl.config.checks import check_text
from metarl.errors import UserError
from metarl.found import opened
from metarl.runs.directory import RunDirectory
from metarl.runs.files import replace_text
from metarl.text import say, shown

CHUNK = 1 << 20
"""Bytes that are read at once."""
SECONDS = 5.0
"""Time between progress lines, s."""
KEPT = 10
"""Places that are remembered."""


class Data(NamedTuple):
    """Contents of data, and where they lay."""

    sha256: str
    places: tuple[str, ...]
    """Absolute paths, the newest first."""
    from_run: str = ""
    """The newest place relative to the run's folder, if it is recorded."""

    def __str__(self) -> str:
        return f"{self.places[0]} (SHA-256 {self.sha256[:16]}...)"


def hashed(name: str, place: Path, files: Mapping[str, Path]) -> Data:
    """Returns the data in some files; says how far it is if that takes long.

    Args:
        name: the name of the tasks, for the progress.
        place: the file or the folder that the user named.
        files: the files by the names that count, which are relative to a folder. A single file
            may have any name.

    Raises:
        UserError: for a file that cannot be read, and for what is no regular file.
    """
    try:
        said = _progress(name, sum(file.stat().st_size for file in files.values()))
        digests = {key: _digest(files[key], said) for key in sorted(files)}
    except OSError as error:
        raise UserError(f"{error.filename or place} cannot be read: {error.strerror}") from error
    if list(files.values()) == [place]:
        (whole,) = digests.values()
    else:
        lines = "".join(f"{digest}  {key}\n" for key, digest in digests.items())
        whole = hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()
    return Data(whole, (os.path.abspath(place),))


def _digest(path: Path, said: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with opened(path) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            said(len(chunk))
    return digest.hexdigest()


def _progress(name: str, total: int) -> Callable[[int], None]:
    """Returns a function that counts bytes, and now and then prints how many were read."""
    done, printed = 0, time.monotonic()

    def said(size: int) -> None:
        nonlocal done, printed
        done += size
        if time.monotonic() - printed > SECONDS:
            shares = f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB"
            say(f"{name}: hashing the data, {shares}", error=True)
            printed = time.monotonic()

    return said


def read(run: RunDirectory) -> Data | None:
    """Returns the data that a run learned from; None if it has no record.

    Raises:
        UserError: for a damaged record.
    """
    try:
        record = found_file.json_object(run.data, values=1000)
        places, names = record["places"], (record["sha256"], record["from_run"])
        if not isinstance(places, list) or not places:
            raise ValueError(f"places is {shown(places)}")
        for text in (*places, *names):
            if not isinstance(text, str):
                raise ValueError(f"{shown(text)} is no text")
            check_text(text, "a value")
        return Data(names[0], tuple(places[:KEPT]), names[1])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{run.data} is no record of a run's data: {shown(str(error), 200)}\n"
            "remove it to go on without a comparison of the data"
        ) from error


def write(run: RunDirectory, data: Data) -> None:
    """Records a run's data; adds the place if the same contents lay elsewhere before."""
    before = read(run)
    old = before.places if before and before.sha256 == data.sha256 else ()
    places = tuple(dict.fromkeys((*data.places, *old)))[:KEPT]
    from_run = os.path.relpath(os.path.realpath(places[0]), run.root.resolve())
    now = Data(data.sha256, places, from_run)
    if now != before:
        replace_text(run.data, json.dumps(now._asdict(), indent=2) + "\n")


def moved(run: RunDirectory, data: Data) -> None:
    """Records a new place of a run's data, if the run has a record of them."""
    if run.data.exists():
        write(run, data)


def found(path: str, run: RunDirectory) -> str:
    """Returns where a run's data are: at `path` as its config has it, or else at the same place
    seen from the run's folder, or else where they lay before. If they are nowhere: `path`."""
    if Path(path).expanduser().exists() or (known := read(run)) is None:
        return path
    places = (os.path.normpath(run.root.resolve() / known.from_run), *known.places)
    return next((place for place in places if Path(place).exists()), path)
