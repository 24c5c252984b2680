"""`python -m metarl.report RUN_DIR`: writes a run's report as one HTML page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from metarl.config.command_line import once, take, take_run, wants_help
from metarl.errors import UserError
from metarl.experiments.assembly import run_config
from metarl.experiments.published import published
from metarl.runs.output import for_report
from metarl.text import say

USAGE = "usage: python -m metarl.report RUN_DIR [--out FILE.html]"
DESCRIPTION = """Writes a run's settings, curves and evaluation as one page, RUN_DIR/report.html.
With --out the page is FILE.html, and RUN_DIR is only read."""


def main(argv: Sequence[str]) -> None:
    run_dir, out = read(argv)
    figures = published(run_config(run_dir))
    run = for_report(run_dir, out)
    from metarl.reporting.report import write_report  # imports matplotlib, which is slow

    say(write_report(run, figures))


def read(argv: Sequence[str]) -> tuple[Path, str]:
    """Returns the run directory that the command line names, and the file to write, if any.

    Raises:
        UserError: if there is no run directory, or further arguments follow.
    """
    if wants_help(argv):
        say(f"{USAGE}\n\n{DESCRIPTION}")
        sys.exit(0)
    argv = once(argv)
    run_dir, out = take_run(argv), take(argv, "--out")
    if run_dir is None:
        raise UserError(f"no run directory given; {USAGE}")
    if argv:
        raise UserError(f"{argv[0]!r} belongs to no flag; {USAGE}")
    return Path(run_dir), out or ""
