"""`metarl check-env TASKS`: checks a task distribution before training on it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metarl.checking.options import CheckOptions
from metarl.config.command_line import (
    once,
    print_help,
    read_flags,
    take_positional,
    wants_help,
)
from metarl.envs import catalogue
from metarl.errors import UserError
from metarl.text import say

if TYPE_CHECKING:
    from metarl.checking.play import Subject

DESCRIPTION = """Checks a task distribution before training on it: faults, repetition, splits, and
whether tasks differ. Exits with 1 if a check fails.

TASKS is a name in the catalogue, or your own package.module:attribute."""


def main(argv: Sequence[str]) -> None:
    name, options = read(argv)
    from metarl.checking.checks import check  # imports torch and simulators, too slow for --help
    from metarl.checking.findings import summary
    from metarl.checking.play import Subject
    from metarl.device import use_threads

    use_threads(options.threads)
    steps = catalogue.default_horizon(name) if options.horizon == "auto" else options.horizon
    subject = Subject(catalogue.make(name, steps, named=name), options)
    try:
        found = check(subject, say)
        say(f"{name}: {summary(found)}")
        if options.plot:
            say(_plot(subject, name, options.plot, found["faults"].status == "ok"))
    finally:
        subject.close()
    if any(finding.status == "FAIL" for finding in found.values()):
        sys.exit(1)


def _plot(subject: Subject, name: str, file: str, played: bool) -> str:
    """Draws the returns, if there are any; returns the file's name or why there is none."""
    if not played:
        return f"{file} is not drawn: there are no returns"
    from metarl.checking.returns_plot import returns_figure  # imports matplotlib
    from metarl.runs.plot_style import save

    returns = subject.returns
    labels = [subject.distribution.describe(task) for task in subject.tasks]
    cut = "" if subject.whole else f", cut short at step {subject.steps}"
    title = f"{name}: {len(returns)} tasks, {returns.shape[1]} episodes of each{cut}"
    save(Path(file).expanduser(), returns_figure(returns, labels, title))
    return file


def read(argv: Sequence[str]) -> tuple[str, CheckOptions]:
    """Returns the name of the tasks and the options on a command line.

    Raises:
        UserError: for an argument that is wrong or missing.
    """
    argv = once(argv)
    name = take_positional(argv)
    if wants_help(argv):
        print_help(CheckOptions(), "metarl check-env TASKS", DESCRIPTION)
    if name is None:
        raise UserError(
            f"no tasks given; the first argument is one of {', '.join(catalogue.names())}, "
            "or your own package.module:attribute"
        )
    catalogue.refuse_one_environment(name, f"then check {catalogue.OWN_EXAMPLE}")
    options = read_flags(argv, CheckOptions())
    if options.plot and (
        Path(options.plot).suffix != ".png" or not Path(options.plot).expanduser().parent.is_dir()
    ):
        raise UserError(f"--plot is {options.plot!r}; give a .png file in an existing folder")
    return name, options
