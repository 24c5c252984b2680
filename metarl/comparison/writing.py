"""Writes compare.json and compare.png into a folder, and replaces nothing but a comparison."""

from __future__ import annotations

from pathlib import Path

from metarl import found
from metarl.comparison.comparing import KIND, Comparison
from metarl.errors import UserError
from metarl.runs.directory import is_run, make_writable
from metarl.runs.files import replace_bytes, replace_text

NAMES = ("compare.json", "compare.png")


def check_place(out: Path) -> None:
    """Makes the folder of a comparison's files, and checks that these may be written.

    Raises:
        UserError: for a run's folder, one that cannot be written, and files of others.
    """
    folder = out.expanduser()
    for place in (folder.resolve(), *folder.resolve().parents):
        if is_run(place):
            raise UserError(
                f"--out is {str(out)!r}, which puts files into the folder of the run {place}\n"
                "give a place outside of runs' folders"
            )
    try:
        make_writable(folder)
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be written: {error.strerror}\ngive another folder with --out"
        ) from error
    numbers, picture = (folder / name for name in NAMES)
    held = [path for path in (numbers, picture) if path.exists() or path.is_symlink()]
    if held and not _is_ours(numbers):
        raise UserError(
            f"{held[0]} is there already and of no comparison\ngive another folder with --out"
        )


def _is_ours(numbers: Path) -> bool:
    try:
        return found.json_object(numbers, found.LARGE).get("kind") == KIND
    except (OSError, UserError):
        return False


def write(comparison: Comparison, out: Path) -> tuple[Path, Path]:
    """Writes the numbers and the picture; returns their paths."""
    from metarl.runs.plot_style import png  # imports matplotlib

    numbers, picture = (out.expanduser() / name for name in NAMES)
    drawn, text = png(comparison.figure()), comparison.json()
    replace_text(numbers, text)
    replace_bytes(picture, drawn)
    return numbers, picture
