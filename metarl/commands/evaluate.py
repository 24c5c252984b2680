"""`metarl evaluate RUN_DIR`: adapts a trained agent to held-out tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from metarl.commands.each_seed import of_each_seed
from metarl.config.command_line import (
    AGENT,
    ENV,
    TASK,
    once,
    print_help,
    read_flags,
    take,
    take_all,
    take_run,
    wants_all,
    wants_help,
)
from metarl.config.options import EvaluateFewShotOptions, EvaluateOptions
from metarl.config.settings import AnyConfig
from metarl.envs import catalogue as envs
from metarl.errors import UserError
from metarl.experiments.assembly import run_config
from metarl.experiments.data import placed
from metarl.experiments.defaults import evaluation_options
from metarl.text import say

DESCRIPTION = """Adapts a trained agent to held-out tasks, from its meta-parameters each time.

Writes RUN_DIR/evaluation/adaptation.json, .csv and .png{more}. With --split train these files go to
RUN_DIR/evaluation/train. With --out DIR they go to DIR together with the report, and RUN_DIR is
only read. Defaults are the run's own.
--task mass=1.7,goal=1.0 adapts to a task of your own, and --task-file FILE to many; the files go to
RUN_DIR/evaluation/own. --env OTHER adapts on another distribution with the same spaces; the files
go to RUN_DIR/evaluation/other. --name NAME puts any of these into RUN_DIR/evaluation/NAME.
If the tasks or the agent of the run are your own code, give --env or --agent
package.module:attribute again: the code is run."""

FIRST = (
    *("tasks", "steps", "split", "checkpoint", "controls", "against", "out", "episodes", "shots"),
    *("seed", "inner_lr", "device"),
)
"""Flags that the help shows without `all`, the most important first."""


def main(argv: Sequence[str]) -> None:
    lines = of_each_seed(argv)
    if len(lines) > 1:
        _evaluate_seeds(lines)
    else:
        _evaluate(lines[0] if lines else argv)


def _evaluate_seeds(lines: Sequence[Sequence[str]]) -> None:
    """Evaluates the runs of seeds one after the other; one that fails ends no other.

    Raises:
        UserError: before any, for a command line that does not fit; at the end, if some failed.
    """
    names = [read(line)[0].run_dir.name for line in lines]
    failed: dict[str, UserError] = {}
    for name, line in zip(names, lines, strict=True):
        say(f"\n{name}:")
        try:
            _evaluate(line)
        except UserError as error:
            failed[name] = error
            say(f"failed: {str(error).splitlines()[0]}")
    if failed:
        listed = ", ".join([*failed][:8]) + (", ..." if len(failed) > 8 else "")
        first = next(iter(failed.values()))
        raise UserError(f"{len(failed)} of {len(names)} seeds failed ({listed}): {first}")


def _evaluate(argv: Sequence[str]) -> None:
    options, config = read(argv)
    tasks = None
    if not options.env.name:
        tasks = envs.configured(config.env, take(list(argv), *ENV))
    from metarl.callbacks.evaluated import tell_of_evaluation
    from metarl.loop.evaluation import evaluate  # torch: once the command line is right

    picture = evaluate(options, tasks, config, take(list(argv), *AGENT))
    tell_of_evaluation(options.run_dir, picture.parent)


def read(argv: Sequence[str]) -> tuple[EvaluateOptions | EvaluateFewShotOptions, AnyConfig]:
    """Returns the options that a command line asks for, checked, and the config of its run.

    Raises:
        UserError: for a folder that is no run, and any flag that does not fit.
    """
    argv = once(argv, (TASK,))
    words = take_all(argv, TASK)
    name = take_run(argv)
    if wants_help(argv):
        defaults = EvaluateOptions(run_dir=Path("RUN_DIR"))
        if name is not None:
            defaults = evaluation_options(Path(name), run_config(Path(name)))
        more = "; predictions.png of curves" if isinstance(defaults, EvaluateFewShotOptions) else (
            "; success.json and .png where\ntasks are of classes"
        )  # fmt: skip
        first = () if wants_all(argv) else FIRST
        print_help(defaults, "metarl evaluate RUN", DESCRIPTION.format(more=more), first=first)
    if name is None:
        raise UserError("no run directory given; name it first, such as runs/point-goal")
    config = run_config(Path(name))
    env, agent = take(argv, *ENV), take(argv, *AGENT)
    options = read_flags(argv, evaluation_options(Path(name), config))
    if env not in (None, config.env.name):
        options = replace(options, env=replace(options.env, name=env))
    if words or options.task_file:
        options = replace(options, task=tuple(words))
        _check_own(argv)
    if agent not in (None, config.agent.name) and all(
        run_config(path).agent.name != agent for path in options.against
    ):
        raise UserError(f"--agent is {agent!r}, and {name} is of {config.agent.name!r}")
    return options, placed(config, options)


def _check_own(argv: Sequence[str]) -> None:
    """Raises a UserError for flags that choose held-out tasks, beside tasks of the user's own."""
    for flag in ("--tasks", "--split"):
        if any(word.partition("=")[0] == flag for word in argv):
            raise UserError(
                f"{flag} chooses tasks of the distribution, and --task or --task-file give your own"
                f"\nleave out {flag}, or your tasks"
            )
