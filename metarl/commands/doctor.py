"""`metarl doctor RUN_DIR ...`: checks the folders of runs and says what to do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from metarl.config.command_line import once, wants_help
from metarl.errors import UserError
from metarl.runs.directory import RunDirectory
from metarl.runs.seeds import begun, is_folder_of_seeds
from metarl.text import say

USAGE = "usage: metarl doctor RUN [RUN ...]"
DESCRIPTION = """Checks everything in the folder of a run, and only reads it: settings, machine,
data, metrics, checkpoints, evaluations and report. A line says `ok`, `note` or `fault`, and what
to do about it. The last line says what to do next. Code of your own is not run. Of a folder of
seeds it checks every run.

The exit status is 0 if no run has a fault, 1 if one has, and 2 if a folder is no run."""


def main(argv: Sequence[str]) -> None:
    folders = read(argv)
    from metarl.diagnosis.run import diagnosed  # torch: once the command line is right

    codes = []
    for folder in folders:
        if len(folders) > 1:
            say(f"{folder}:")
        try:
            whole, following = diagnosed(folder, say)
            codes.append(0 if whole else 1)
            say(following)
        except UserError as error:
            codes.append(error.exit_code)
            say(f"error: {error}", error=True)
    if any(codes):
        sys.exit(max(codes))


def read(argv: Sequence[str]) -> list[Path]:
    """Returns the folders that the command line names.

    Raises:
        UserError: if it names none, or has flags.
    """
    if wants_help(argv):
        say(f"{USAGE}\n\n{DESCRIPTION}")
        sys.exit(0)
    folders = once(argv)
    for word in folders:
        if word.startswith("-"):
            raise UserError(f"{word!r} is no flag; {USAGE}")
    if not folders:
        raise UserError(f"no run directory given; {USAGE}")
    return [run for folder in folders for run in _runs(Path(folder).expanduser())]


def _runs(folder: Path) -> list[Path]:
    """Returns the runs in a folder of seeds, and any other folder as it is."""
    if not is_folder_of_seeds(folder):
        return [folder]
    return [run for run in begun(folder) if RunDirectory(run).config.is_file()]
