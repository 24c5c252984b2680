"""`metarl report RUN`: writes a run, several runs, or a folder of runs as one HTML page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from metarl.config.command_line import once, take, take_positional, wants_help
from metarl.errors import UserError
from metarl.experiments.assembly import run_config
from metarl.experiments.published import published
from metarl.runs.directory import RunDirectory
from metarl.runs.output import for_report, for_several
from metarl.runs.seeds import is_folder_of_seeds, seeds_of
from metarl.text import say

USAGE = "usage: metarl report RUN [RUN ...] [--out FILE.html]"
DESCRIPTION = """Writes one HTML page, which needs no other file and makes no request.

RUN            a run's settings, curves, tasks and evaluations: RUN/report.html
FOLDER         a folder of seeds (seed1, seed2, ...), compared; or of any runs, as a table:
               FOLDER/report.html
RUN RUN ...    runs and folders of seeds, compared; this needs --out

With --out the page is FILE.html, and the folders are only read."""


def main(argv: Sequence[str]) -> None:
    paths, out = read(argv)
    if len(paths) == 1 and (RunDirectory(paths[0]).config.exists() or not paths[0].is_dir()):
        figures = published(run_config(paths[0]))
        run = for_report(paths[0], out)
        from metarl.reporting.report import write_report  # numpy, which is slow

        say(write_report(run, figures))
        return
    page = for_several(paths[0], out)
    if len(paths) > 1 or is_folder_of_seeds(paths[0]):
        for path in paths:
            seeds_of(path)  # before slow imports
        from metarl.reporting.several import write_several

        say(write_several(paths, page))
    else:
        from metarl.reporting.overview import write_overview

        say(write_overview(paths[0], page))


def read(argv: Sequence[str]) -> tuple[list[Path], str]:
    """Returns the folders that the command line names, and the file to write, if any.

    Raises:
        UserError: if there is no folder, if several lack a file, or if further arguments follow.
    """
    if wants_help(argv):
        say(f"{USAGE}\n\n{DESCRIPTION}")
        sys.exit(0)
    argv, paths = once(argv), []
    while (name := take_positional(argv)) is not None:
        paths.append(Path(name).expanduser())
    if (name := take(argv, "--run-dir", "--run_dir")) is not None:
        paths.append(Path(name).expanduser())
    out = take(argv, "--out")
    if argv:
        raise UserError(f"{argv[0]!r} belongs to no flag; {USAGE}")
    if not paths:
        raise UserError(f"no run directory given; {USAGE}")
    if len(paths) > 1 and not out:
        raise UserError(f"{len(paths)} folders are given; name their page with --out FILE.html")
    return paths, out or ""
