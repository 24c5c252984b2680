"""`metarl compare RUN RUN ...`: compares learners over seeds and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metarl.config.command_line import once, print_help, read_flags, take_positional, wants_help
from metarl.config.ranges import Natural
from metarl.errors import UserError
from metarl.text import say

DESCRIPTION = """Compares the evaluations of runs on held-out tasks. RUN is a run's folder, or a
folder of seeds, runs/NAME with seed1, seed2, ... Writes DIR/compare.json and DIR/compare.png.
Intervals reflect seeds and tasks; docs/compare.md says how."""


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Options of `metarl compare RUN RUN ...`."""

    label: tuple[str, ...] = ()
    """A name for each RUN, in their order; empty: the ends of their paths."""
    steps: Natural | Literal["last"] = "last"
    """Adaptation step after which the learners are compared; `last` is the last that all have."""
    success: bool = False
    """Compare success rates in the place of returns."""
    name: str = ""
    """Name of the evaluation to read, RUN/evaluation/NAME; empty: that on held-out tasks."""
    draw: Literal["both", "seeds", "tasks", "stratified"] = "both"
    """Units that a bootstrap sample draws: seeds and tasks, one of them, or `stratified`: seeds
    anew for each task, as rliable does."""
    out: Path = Path("comparison")
    """Folder for compare.json and compare.png."""


def main(argv: Sequence[str]) -> None:
    paths, options = read(argv)
    from metarl.comparison.writing import check_place, write  # matplotlib and numpy, which are slow

    check_place(options.out)
    from metarl.comparison.comparing import compare

    found = compare(
        paths, options.label, options.steps, options.success, options.name, options.draw
    )
    say(found.table())
    numbers, picture = write(found, options.out)
    say(f"\nnumbers  {numbers}\npicture  {picture}")


def read(argv: Sequence[str]) -> tuple[list[Path], CompareOptions]:
    """Returns the folders that a command line names, and its options.

    Raises:
        UserError: if there is no folder, and for any flag that does not fit.
    """
    argv, paths = once(argv), []
    while (name := take_positional(argv)) is not None:
        paths.append(Path(name).expanduser())
    if wants_help(argv):
        print_help(CompareOptions(), "metarl compare RUN RUN ...", DESCRIPTION)
    options = read_flags(argv, CompareOptions())
    if not paths:
        raise UserError(
            "no runs are given; name them first, as in `metarl compare runs/maml runs/promp`"
        )
    return paths, options
