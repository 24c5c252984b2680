"""`metarl record RUN_DIR`: films a trained agent before and after adaptation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

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
from metarl.config.settings import AnyConfig, Config, FewShotConfig
from metarl.envs import catalogue as envs
from metarl.errors import UserError
from metarl.experiments.assembly import run_config
from metarl.recording.headless import prepare
from metarl.recording.options import RecordOptions, check
from metarl.runs.seeds import is_folder_of_seeds, seeds_of
from metarl.text import say

DESCRIPTION = """Films a trained agent before and after adaptation, side by side: a column for each
of --steps, a row for each task. All columns of a task start from the same reset seed.

The film is RUN_DIR/films/NAME.gif, or the file of --out, .mp4 or .gif. A .mp4 needs
`pip install "metarl[video]"`.
If the tasks or the agent of the run are your own code, give --env or --agent
package.module:attribute again: the code is run."""

FIRST = (
    *("steps", "tasks", "task", "task_file", "out", "name", "size", "every", "episodes"),
    "actions",
)
"""Flags that the help shows without `all`, the most important first."""


def main(argv: Sequence[str]) -> None:
    options, config = read(argv)
    prepare(*_drawing(config.env.name))  # before mujoco is imported
    tasks = envs.configured(config.env, take(list(argv), *ENV))
    from metarl.recording.record import record  # torch: once the command line is right

    record(options, config, tasks, take(list(argv), *AGENT))


def _drawing(name: str) -> tuple[bool, bool]:
    """Returns whether MuJoCo draws the tasks of a name, and whether it might."""
    entry = envs.FAMILIES.get(name.partition(":")[0])
    needed = entry is not None and (entry.metaworld or ".mujoco." in entry.module)
    return needed, needed or envs.is_own(name)


def read(argv: Sequence[str]) -> tuple[RecordOptions, Config]:
    """Returns the options that a command line asks for, checked, and the config of its run.

    Raises:
        UserError: for a folder that is no run or has no episodes, and any flag that does not fit.
    """
    argv = once(argv, (TASK,))
    words = take_all(argv, TASK)
    name = take_run(argv)
    if name is not None:
        name = _run_of(name)
    if wants_help(argv):
        defaults = RecordOptions(run_dir=Path("RUN_DIR"))
        if name is not None:
            defaults = _defaults(Path(name), _playing(name, run_config(Path(name))))
        first = () if wants_all(argv) else FIRST
        print_help(defaults, "metarl record RUN", DESCRIPTION, first=first)
    if name is None:
        raise UserError("no run directory given; name it first, such as runs/point-goal")
    config = _playing(name, run_config(Path(name)))
    env, agent = take(argv, *ENV), take(argv, *AGENT)
    if env not in (None, config.env.name):
        raise UserError(f"--env is {env!r}, and {name} learned {config.env.name!r}")
    if agent not in (None, config.agent.name):
        raise UserError(f"--agent is {agent!r}, and {name} is of {config.agent.name!r}")
    options = read_flags(argv, _defaults(Path(name), config))
    if words or options.task_file:
        options = replace(options, task=tuple(words))
        _check_own(argv)
    check(options)
    return options, config


def _run_of(name: str) -> str:
    """Returns the folder of a run: of a folder of seeds, that of the first."""
    if not is_folder_of_seeds(name):
        return name
    first, *others = seeds_of(name)
    say(f"{name} has {len(others) + 1} seeds; this films {first}")
    return str(first)


def _check_own(argv: Sequence[str]) -> None:
    """Raises a UserError for flags that choose tasks, beside tasks of the user's own."""
    for flag in ("--tasks", "--split"):
        if any(word.partition("=")[0] == flag for word in argv):
            raise UserError(
                f"{flag} chooses tasks of the distribution, and --task or --task-file give your own"
                f"\nleave out {flag}, or your tasks"
            )


def _playing(name: str, config: AnyConfig) -> Config:
    """Returns the config of a run that learned from episodes."""
    if isinstance(config, FewShotConfig):
        raise UserError(
            f"{name} learned from examples of {config.env.name!r}, so there are no episodes to "
            "film\n`metarl evaluate` draws what such a run predicts"
        )
    return config


def _defaults(run_dir: Path, config: Config) -> RecordOptions:
    """Returns the options as the run's own config has them."""
    playing = {name: getattr(config, name) for name in ("workers", "worker_timeout", "act_on")}
    return RecordOptions(
        run_dir=run_dir,
        episodes=config.evaluation.episodes,
        device=config.device,
        threads=config.threads,
        **playing,
    )
