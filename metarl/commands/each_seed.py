"""A command on a folder of seeds: the same for the run of each seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metarl.config.command_line import TASK, once, take, take_run, wants_help
from metarl.runs.seeds import is_folder_of_seeds, seeds_of
from metarl.text import say


def of_each_seed(argv: Sequence[str]) -> list[list[str]]:
    """Returns the command lines for the runs in a folder of seeds; none for another folder.

    All have the same flags, so evaluations have the same tasks. With --out DIR the files of each go
    to DIR/seed1, DIR/seed2 ...

    Raises:
        UserError: for runs that differ in more than their seed.
    """
    words = once(argv, (TASK,))
    name = take_run(words)
    if name is None or not is_folder_of_seeds(name):
        return []
    runs = seeds_of(name)
    if wants_help(argv):
        return [[str(runs[0]), *words]]
    out = take(words, "--out")
    say(f"{len(runs)} seeds in {name}: {', '.join(run.name for run in runs)}")
    places = [["--out", str(Path(out, run.name))] if out else [] for run in runs]
    return [[str(run), *words, *place] for run, place in zip(runs, places, strict=True)]
