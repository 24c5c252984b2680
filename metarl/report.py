"""`python -m metarl.report RUN_DIR`: writes a run's report as one HTML page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from metarl.config.command_line import open_door, take_positional, wants_help
from metarl.errors import UserError
from metarl.experiments.assembly import run_config
from metarl.experiments.published import published

USAGE = "usage: python -m metarl.report RUN_DIR"


def main(argv: Sequence[str]) -> None:
    run_dir = read(argv)
    figures = published(run_config(run_dir))
    from metarl.runs.report import write_report  # imports matplotlib, which is slow

    print(write_report(run_dir, figures))


def read(argv: Sequence[str]) -> Path:
    """Returns the run directory that the command line names.

    Raises:
        UserError: if it is missing, or further arguments follow.
    """
    if wants_help(argv):
        print(f"{USAGE}\n\nWrites RUN_DIR/report.html: a run's settings, curves and evaluation.")
        sys.exit(0)
    argv = list(argv)
    run_dir = take_positional(argv)
    if run_dir is None:
        raise UserError(f"no run directory given; {USAGE}")
    if argv:
        raise UserError(f"{argv[0]!r} belongs to no flag; {USAGE}")
    return Path(run_dir)


if __name__ == "__main__":
    open_door(main)
