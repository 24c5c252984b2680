"""Files that a film is written to, checked before anything is played."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from metarl import found
from metarl.errors import UserError
from metarl.recording.options import RecordOptions
from metarl.recording.places import SUFFIXES, facts_of, folder_of, strip_of
from metarl.runs import places
from metarl.runs.directory import existing, make_writable
from metarl.runs.files import encoded, replace_bytes
from metarl.text import shown

MARK = b"metarl film"
"""First words of the comment in a film, by which metarl knows its own."""
MOST = 256 << 20
"""Bytes of a film that are searched for its comment."""


class Output(NamedTuple):
    """Files of a film; those of a run's folder have a picture and facts beside them."""

    film: Path
    beside: bool
    force: bool

    @property
    def is_gif(self) -> bool:
        return self.film.suffix == ".gif"

    def write(self, film: bytes, strip: bytes, facts: Mapping[str, Any]) -> None:
        """Writes the film last, each file in one step.

        Raises:
            UserError: for another's file that appeared in the meantime.
        """
        if self.beside:
            self.film.parent.mkdir(exist_ok=True)
            replace_bytes(facts_of(self.film), encoded(json.dumps(facts, indent=2) + "\n"))
            replace_bytes(strip_of(self.film), strip)
        else:
            check_free(self.film, self.force)
        replace_bytes(self.film, film)


def checked(options: RecordOptions) -> Output:
    """Returns the files that a film is written to; they can be written.

    Raises:
        UserError: for an unknown kind of film, one that cannot be made here, a file that is there
            and is not to be replaced, and a folder that cannot be written.
    """
    if not options.out:
        return _in_the_run(options)
    film = Path(options.out).expanduser()
    if film.suffix not in SUFFIXES:
        raise UserError(f"--out is {shown(options.out)}; give a file ending in .mp4 or .gif")
    if film.suffix == ".mp4":
        check_codec(film)
    if not film.parent.is_dir():
        raise UserError(f"--out is {shown(options.out)}, and there is no folder {film.parent}")
    check_free(film, options.force)
    _check_writable(film.parent)
    return Output(film, False, options.force)


def _in_the_run(options: RecordOptions) -> Output:
    run = existing(options.run_dir)
    folder = folder_of(run.root)
    film = folder / f"{options.name}.gif"
    places.check(run.root, [folder], [film, strip_of(film), facts_of(film)])
    _check_writable(folder if folder.exists() else run.root)
    return Output(film, True, True)


def _check_writable(folder: Path) -> None:
    try:
        make_writable(folder)
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be written: {error.strerror}\n"
            "give a file in another folder with --out"
        ) from error


def check_codec(film: Path) -> None:
    """Raises a UserError where no .mp4 can be written, before the library is imported."""
    if importlib.util.find_spec("av") is None:
        raise UserError(
            f'{film.name} needs a video encoder, which is not installed\n'
            f'pip install "metarl[video]", or give --out {film.with_suffix(".gif")}'
        )  # fmt: skip


def check_free(film: Path, force: bool) -> None:
    """Raises a UserError for a file that is there, but for a film of metarl with `force`."""
    if not os.path.lexists(film):
        return
    if not is_ours(film):
        raise UserError(f"{film} is there already, and no film of metarl; give another --out")
    if not force:
        raise UserError(f"{film} is there already; give --force to replace it, or another --out")


def is_ours(film: Path) -> bool:
    """Returns whether a file is a film that metarl wrote."""
    with suppress(OSError, UserError):
        return not film.is_symlink() and MARK in found.read(film, MOST)
    return False
