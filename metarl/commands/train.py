"""`python -m metarl.train PRESET`: meta-trains an agent, or continues a run that stopped."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from metarl.agents import catalogue as agents
from metarl.callbacks import flags
from metarl.config.command_line import (
    AGENT,
    ENV,
    once,
    print_help,
    read_flags,
    take,
    take_positional,
    take_switch,
    wants_help,
)
from metarl.config.own_code import check_cluster
from metarl.config.settings import AnyConfig, EnvConfig, FewShotConfig
from metarl.envs import catalogue as envs
from metarl.envs.supervised import families
from metarl.errors import UserError
from metarl.experiments import budget
from metarl.experiments.assembly import base_of, load_config, with_agent, with_env
from metarl.experiments.offered import offered
from metarl.experiments.presets import PRESETS, blank, preset
from metarl.runs import directory
from metarl.text import say

MAX_NAME = 80
"""Characters of a folder that is named after an experiment."""


def main(argv: Sequence[str]) -> None:
    config, name = read(argv)
    callbacks = flags.take_callbacks(list(argv)).made()
    from metarl.loop.training import train  # torch: once the command line is right

    named, named_agent = (take(list(argv), *words) for words in (ENV, AGENT))
    train(config, name, named=named, named_agent=named_agent, callbacks=callbacks)


def read(argv: Sequence[str]) -> tuple[AnyConfig, str]:
    """Returns the config that a command line asks for, checked, and the name of its preset.

    Where only a file is given the name is the run's. The preset comes first, then --agent and
    --env in its place, then --config, then flags.

    Raises:
        UserError: for anything in it that does not fit, and for a folder that `directory.check`
            refuses.
    """
    argv = once(argv)
    flags.take_callbacks(argv)
    # These stand for whole sections; what is left are the flags of single fields.
    match_budget = take_switch(argv, budget.MATCH)
    file, agent, env = take(argv, "--config"), take(argv, *AGENT), take(argv, *ENV)
    name = take_positional(argv)
    config = preset(name) if name is not None else _without_preset(argv, file, env)
    usual = config.agent
    if agent is not None:
        config = with_agent(config, agent, name)
    if env is not None:
        config = with_env(config, env)
    if wants_help(argv):
        print_help(config, "metarl.train PRESET", _description(config), offered(config))
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
    elif (line := budget.note(config, usual)) is not None:
        say(line)
    if not config.run_dir:
        config = replace(config, run_dir=_run_dir(name or Path(file or "").stem, agent, env))
    directory.check(directory.RunDirectory(config.run_dir))  # before torch, which is slow
    return config, name or Path(config.run_dir).resolve().name


def _without_preset(argv: Sequence[str], file: str | None, env: str | None) -> AnyConfig:
    """Returns the config that a file is laid over, or the one that --help shows."""
    if file is not None:
        return base_of(file, env)
    if wants_help(argv):
        return blank("maml-trpo", EnvConfig.name)
    raise UserError(f"no preset given: it comes first; there are {', '.join(PRESETS)}")


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


def _run_dir(label: str, agent: str | None, env: str | None) -> str:
    """Returns a folder's name of parts that may be long, as lists of classes are."""
    label = "_".join(part for part in (label, agent, env) if part)
    name = re.sub(r"[^\w.-]", "-", label)
    if len(name) > MAX_NAME:
        name = f"{name[: MAX_NAME - 9]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
    return str(Path("runs", name))


def _description(config: AnyConfig) -> str:
    few_shot = isinstance(config, FewShotConfig)
    kind, tasks = ("examples", families) if few_shot else ("episodes", envs)
    other, others = ("episodes", envs) if few_shot else ("examples", families)
    width = max(map(len, PRESETS)) + 2
    return "\n".join(
        [
            "Meta-trains an agent. The same command again continues a run that stopped.",
            "",
            "presets:",
            *(f"  {name:<{width}}{entry.summary}" for name, entry in PRESETS.items()),
            "",
            "in a preset's place, or over it:",
            f"  --agent NAME   another agent with its defaults: {', '.join(agents.names(kind))};",
            "                 or your own, package.module:attribute",
            f"  --env NAME     other tasks: {', '.join(tasks.names())};",
            "                 or your own, package.module:attribute",
            f"  of the {'other' if few_shot else 'few-shot'} presets, --agent: "
            f"{', '.join(agents.names(other))};",
            f"    --env: {', '.join(others.names())}",
            flags.HELP,
            "  --config FILE  settings in YAML: a run's config.yaml, or some over a preset's",
            f"  {budget.MATCH} as many environment steps as the preset's agent plays, in more or "
            "fewer iterations",
            "",
            "The flags below have an effect for this preset, --agent and --env.",
        ]
    )
