"""Places of films in a run's folder.

A film is RUN/films/NAME.gif or NAME.mp4. Beside it lie NAME.png, a strip of its frames for a page,
and NAME.json, its facts: the tasks, the steps and the return of each episode.
"""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".gif", ".mp4")
"""Kinds of films."""
FOLDER = "films"


def folder_of(run: Path) -> Path:
    """Returns the folder of a run's films."""
    return Path(run).expanduser() / FOLDER


def strip_of(film: Path) -> Path:
    """Returns the picture of a film's frames; it may be missing."""
    return film.with_suffix(".png")


def facts_of(film: Path) -> Path:
    """Returns the JSON file of a film's facts; it may be missing."""
    return film.with_suffix(".json")


def films_of(run: Path) -> list[Path]:
    """Returns the films of a run, sorted by name: regular files that lie in its folder.

    The folder may have been sent by somebody, so links are left out.
    """
    folder = folder_of(run)
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in SUFFIXES and not path.name.startswith(".")
        and path.is_file() and not path.is_symlink()
    )  # fmt: skip
