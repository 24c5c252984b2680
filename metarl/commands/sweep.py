"""`metarl sweep PRESET --trials N --param KEY=RANGE ...`: searches for good settings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from metarl.callbacks.flags import take_callbacks
from metarl.commands import train
from metarl.config.command_line import AGENT, ENV, read_flags, take, take_all, wants_help
from metarl.config.ranges import Count
from metarl.config.settings import AnyConfig
from metarl.errors import UserError
from metarl.runs import directory
from metarl.sweep.parameters import Parameter, parameters
from metarl.text import say

USAGE = "usage: metarl sweep PRESET --param KEY=RANGE [--param ...] [flags of metarl train]"
DESCRIPTION = """Searches for settings by Optuna. A trial trains on a part of the training tasks and
is judged by its adaptation to the others, the validation tasks; held-out tasks are never used. The
same command again continues. Writes to runs/PRESET-sweep, or --run-dir: study.db, a run's folder
for each trial, best.yaml, sweep.json, sweep.png.

  --param KEY=LOW:HIGH          a range of a setting's values; --param may come several times
  --param KEY=log:LOW:HIGH      a range on a logarithmic scale
  --param KEY=choice:A,B,...    some values, as in agent.policy.hidden=choice:[64,64],[100,100]
  --trials N                    trials in all, those that failed or were pruned too (30)
  --jobs N                      trials at a time (1)
  --sampler tpe|random|grid     way to choose values; a grid has 5 of each range (tpe)
  --pruner median|none          end trials whose training is worse than the median (none)
  --select-on validation|train  tasks to judge by; train only where there are too few (validation)
  --seed N                      seed of the sampler and of all trials (1)

`metarl train PRESET --help` lists the keys, and the flags that all trials share (--iterations,
--sampling.tasks and others)."""
PARAM = "--param"


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Options of `metarl sweep`."""

    trials: Count = 30
    jobs: Count = 1
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    pruner: Literal["median", "none"] = "none"
    select_on: Literal["validation", "train"] = "validation"


def main(argv: Sequence[str]) -> None:
    if wants_help(argv):
        say(f"{USAGE}\n\n{DESCRIPTION}")
        sys.exit(0)
    config, options, varied, named = read(argv)
    from metarl.sweep.sweep import sweep  # numpy and Optuna, which are slow

    sweep(config, varied, options, *named)


Named = tuple["str | None", "str | None"]


def read(
    argv: Sequence[str],
) -> tuple[AnyConfig, SweepOptions, tuple[Parameter, ...], Named]:
    """Returns the settings that all trials share, the options, the parameters, and the code of a
    user's own tasks and agent that the command line names.

    Raises:
        UserError: for anything in it that does not fit.
    """
    rest = list(argv)
    texts = take_all(rest, PARAM)
    flags = [f"--{name.replace('_', '-')}" for name in vars(SweepOptions())]
    own = [
        word
        for flag in flags
        if (value := take(rest, flag, flag.replace("-", "_").replace("__", "--", 1))) is not None
        for word in (flag, value)
    ]
    options = read_flags(own, SweepOptions())
    if take_callbacks(list(rest)) != take_callbacks([]):
        raise UserError(
            "--wandb and --stop-after are for single runs, and the trials of a sweep have to be "
            "equal\nleave them out; --pruner median ends bad trials"
        )
    asked = train.resolved(rest, "metarl sweep PRESET")
    config: Any = asked.config
    if not config.run_dir:
        config = replace(config, run_dir=f"{asked.folder}-sweep")
    if directory.is_run(Path(config.run_dir)):
        raise UserError(
            f"{config.run_dir} is a run's folder; give a sweep one of its own with --run-dir"
        )
    named = take(list(rest), *ENV), take(list(rest), *AGENT)
    return config, options, parameters(texts, config), named
