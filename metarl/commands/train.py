"""`metarl train PRESET`: meta-trains an agent, or continues a run that stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from metarl.callbacks import flags
from metarl.commands import train_help
from metarl.commands.train_help import SEEDS
from metarl.config import own_code
from metarl.config.checks import check_continues
from metarl.config.command_line import (
    AGENT,
    ENV,
    once,
    print_help,
    read_flags,
    take,
    take_positional,
    take_switch,
    wants_all,
    wants_help,
)
from metarl.config.own_code import check_cluster
from metarl.config.settings import AnyConfig, EnvConfig
from metarl.envs import catalogue as envs
from metarl.errors import UserError, several
from metarl.experiments import budget
from metarl.experiments.assembly import base_of, load_config, run_config, with_agent, with_env
from metarl.experiments.defaults import run_folder
from metarl.experiments.offered import offered
from metarl.experiments.presets import PRESETS, blank, preset, spelt
from metarl.runs import directory
from metarl.runs.seeds import begun, refuse_folder_of_seeds, seed_folder
from metarl.text import say, shown

FIRST = (
    *("iterations", "seed", "run_dir", "device", "workers", "env.shots", "env.horizon"),
    *("sampling.tasks", "sampling.episodes", "agent.inner.lr", "agent.inner.steps"),
    *("agent.outer.lr", "threads"),
)
"""Flags that the help shows without `all`, the most important first."""
MOST_SEEDS = 1000


def main(argv: Sequence[str]) -> None:
    rest, seeds = take_seeds(argv)
    config, name = read(rest, seeds)
    if seeds:
        _train_seeds(config, rest, seeds)
        return
    callbacks = flags.take_callbacks(list(argv)).made()
    from metarl.loop.training import train  # torch: once the command line is right

    named, named_agent = (take(list(argv), *words) for words in (ENV, AGENT))
    train(config, name, named=named, named_agent=named_agent, callbacks=callbacks)


def _train_seeds(config: AnyConfig, argv: Sequence[str], seeds: Sequence[int]) -> None:
    """Trains the seeds of one experiment side by side, each as an ordinary run."""
    from metarl.loop.side_by_side import train_seeds

    words = list(argv)
    take(words, "--run-dir", "--run_dir")
    told = resolved(argv).note.splitlines()  # each seed would tell it again
    train_seeds(config, Path(config.run_dir), seeds, words, told)
    again = f" --env {config.env.name}" if envs.is_own(config.env.name) else ""
    again += f" --agent {config.agent.name}" if own_code.is_place(config.agent.name) else ""
    say(f"done; next: metarl evaluate {quote(config.run_dir)}{again}")


def take_seeds(argv: Sequence[str]) -> tuple[list[str], tuple[int, ...]]:
    """Returns the command line without --seeds, and the seeds that it asks for.

    One number is how many, from 1 on; several are the seeds.

    Raises:
        UserError: for other values than different whole numbers, and beside --seed.
    """
    rest = once(argv)
    at = next((i for i, word in enumerate(rest) if word.partition("=")[0] == SEEDS), None)
    if at is None:
        return rest, ()
    flag, equals, value = rest.pop(at).partition("=")
    words = value.split() if equals else []
    while not equals and at < len(rest) and not rest[at].startswith("--"):
        words.append(rest.pop(at))
    if not words or not all(word.isdecimal() and len(word) < 10 for word in words):
        is_what = f"is {shown(' '.join(words))}" if words else "has no value"
        raise UserError(f"{flag} {is_what}; give how many, as in {flag} 5, or which: {flag} 3 7 11")
    first, *others = map(int, words)
    seeds = (first, *others) if others else tuple(range(1, min(first, MOST_SEEDS + 1) + 1))
    if not 0 < len(seeds) <= MOST_SEEDS:
        raise UserError(f"{flag} is {words[0]}; give 1 to {MOST_SEEDS} seeds")
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise UserError(f"{flag} has {twice} twice; give each seed once")
    if any(word.partition("=")[0] == "--seed" for word in rest):
        raise UserError(f"--seed and {flag} are both given; give one of them")
    return rest, seeds


def read(argv: Sequence[str], seeds: Sequence[int] = ()) -> tuple[AnyConfig, str]:
    """Returns the config that a command line asks for, checked, and the name of its preset.

    Where only a file is given the name is the run's. With `seeds` the folder is one of runs.

    Raises:
        UserError: for anything in it that does not fit, and for a folder that `directory.check`
            refuses.
    """
    asked = resolved(argv)
    if asked.note:
        say(asked.note)
    config = asked.config
    if not config.run_dir:
        config = replace(config, run_dir=asked.folder)
    _check_folder(config, seeds)  # before torch, which is slow
    return config, asked.preset or Path(config.run_dir).resolve().name


class Asked(NamedTuple):
    """Config that a command line asks for, and how to name its run."""

    config: AnyConfig
    preset: str | None
    folder: str
    """Folder of the run if `config.run_dir` names none."""
    note: str
    """A line to say about the number of environment steps; may be empty."""


def resolved(argv: Sequence[str], usage: str = "metarl train PRESET") -> Asked:
    """Returns the config that a command line asks for, before its folder is looked at.

    The preset comes first, then --agent and --env in its place, then --config, then flags.

    Raises:
        UserError: for anything in it that does not fit.
    """
    argv = once(argv)
    flags.take_callbacks(argv)
    # These stand for whole sections; what is left are the flags of single fields.
    match_budget = take_switch(argv, budget.MATCH)
    file, agent, env = take(argv, "--config"), take(argv, *AGENT), take(argv, *ENV)
    name = take_positional(argv)
    name = name if name is None else spelt(name)
    config = preset(name) if name is not None else _without_preset(argv, file, env)
    usual = config.agent
    if agent is not None:
        config = with_agent(config, agent, name)
    if env is not None:
        config = with_env(config, env)
    if wants_help(argv):
        first = () if wants_all(argv) else FIRST
        told = train_help.brief() if first else train_help.full(config)
        print_help(config, usage, told, offered(config), first)
    if file is not None:
        config = _with_file(config, name, file, agent, env)
        check_cluster(getattr(config, "ray_address", ""), argv, file)
    if name is None:  # a file, such as a run's own, has the iterations of its own agent
        usual = config.agent
    config = read_flags(argv, config)
    if match_budget:
        if name is None:
            raise UserError(
                f"{budget.MATCH} is for another agent in the place of a preset's; name a preset"
            )
        config = budget.matched(config, usual)
    note = None if match_budget else budget.note(config, usual)
    folder = run_folder(name or Path(file or "").stem, agent, env)
    return Asked(config, name, folder, note or "")


def _check_folder(config: AnyConfig, seeds: Sequence[int]) -> None:
    """Raises a UserError for a folder that cannot hold this run, or the runs of these seeds."""
    root = Path(config.run_dir).expanduser()
    if not seeds:
        directory.check(directory.RunDirectory(root))
        refuse_folder_of_seeds(
            root, f"continue them with {SEEDS}, or give another place with --run-dir"
        )
        return
    if directory.RunDirectory(root).config.exists():
        raise UserError(
            f"{root} is a run itself; give the seeds a folder of their own, as in "
            f"--run-dir {quote(f'{root}-seeds')}"
        )
    begun(root)  # refuses links out of it
    for seed in seeds:
        run = directory.RunDirectory(seed_folder(root, seed))
        directory.check(run)
        if run.config.is_file():
            asked = replace(config, seed=seed, run_dir=str(run.root))
            check_continues(asked, run_config(run.root), run.root)


def _without_preset(argv: Sequence[str], file: str | None, env: str | None) -> AnyConfig:
    """Returns the config that a file is laid over, or the one that --help shows."""
    if file is not None:
        return base_of(file, env)
    if wants_help(argv):
        return blank("maml-trpo", EnvConfig.name)
    raise UserError(
        f"no preset given: it comes first; there are {several(PRESETS)}\n"
        "`metarl list presets` describes them"
    )


def _with_file(
    config: AnyConfig, preset: str | None, file: str, agent: str | None, env: str | None
) -> AnyConfig:
    """Returns `config` with a file's settings; what --agent and --env named has to stay."""
    loaded = load_config(file, config, preset)
    for section, asked in (("agent", agent), ("env", env)):
        found = getattr(loaded, section).name
        if asked is not None and found != getattr(config, section).name:
            raise UserError(
                f"--{section} is {asked!r} and {file} says {found!r}; leave one of them out"
            )
    return loaded
