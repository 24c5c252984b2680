"""`python -m metarl.train PRESET`: meta-trains an agent, or continues a run that stopped."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from metarl.agents import catalogue as agents
from metarl.agents import catalogue_few_shot as learners
from metarl.config.command_line import (
    open_door,
    print_help,
    read_flags,
    take,
    take_env,
    take_positional,
    wants_help,
)
from metarl.config.settings import Config
from metarl.config.settings_few_shot import FewShotConfig
from metarl.envs import catalogue as envs
from metarl.envs.supervised import families
from metarl.errors import UserError
from metarl.experiments import assembly
from metarl.experiments.presets import PRESETS, preset

MAX_NAME = 80
"""Characters of a folder that is named after an experiment."""


def main(argv: Sequence[str]) -> None:
    config, name = read(argv)
    named = take_env(list(argv))
    # torch and the simulators: once the command line is right
    if isinstance(config, FewShotConfig):
        from metarl.loop import few_shot

        few_shot.train(config, name, families.configured(config.env, named))
        return
    from metarl.loop.episodes_training import train

    train(config, name, envs.configured(config.env, named))


def read(argv: Sequence[str]) -> tuple[Config | FewShotConfig, str]:
    """The config that a command line asks for, complete and checked, and its preset's name
    (the run's, where only a file was given).

    The preset comes first, then --agent and --env in its place, then --config, then flags.

    Raises:
        UserError: for anything in it that does not fit.
    """
    argv = list(argv)
    # These stand for whole sections; what is left are the flags of single fields.
    file = take(argv, "--config")
    agent = take(argv, "--agent.name") or take(argv, "--agent")
    env = take_env(argv)
    name = take_positional(argv)
    config: Config | FewShotConfig = assembly.blank(file, env) if file is not None else Config()
    if name is not None:
        config = preset(name)
    if agent is not None:
        config = assembly.with_agent(config, agent)
    if env is not None:
        config = assembly.with_env(config, env)
    if wants_help(argv):
        print_help(config, "metarl.train PRESET", _description())
    if name is None and file is None:
        raise UserError(f"no preset given: it comes first; there are {', '.join(PRESETS)}")
    if file is not None:
        config = assembly.load_config(file, config)
        _refuse_two_names("--agent", agent, file, config.agent.name)
        _refuse_two_names("--env", env, file, config.env.name)
    config = read_flags(argv, config)
    label = name or Path(file or "").stem
    if not config.run_dir:
        folder = "_".join(part for part in (label, agent, env) if part)
        config = replace(config, run_dir=str(Path("runs", _folder(folder))))
    return config, name or Path(config.run_dir).name


def _folder(label: str) -> str:
    """A folder's name of what may be long, as lists of classes are."""
    name = re.sub(r"[^\w.-]", "-", label)
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 9]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"


def _refuse_two_names(flag: str, asked: str | None, file: str, found: str) -> None:
    if asked is not None and asked != found:
        raise UserError(f"{flag} is {asked!r} and {file} says {found!r}; leave one of them out")


def _description() -> str:
    width = max(map(len, PRESETS)) + 2
    return "\n".join(
        [
            "Meta-trains an agent. The same command again continues a run that stopped.",
            "",
            "presets:",
            *(f"  {name:<{width}}{entry.summary}" for name, entry in PRESETS.items()),
            "",
            "in a preset's place, or over it:",
            f"  --agent NAME   another agent with its defaults: {', '.join(agents.names())}",
            f"  --env NAME     other tasks at their own horizon: {', '.join(envs.names())};",
            "                 or your own, package.module:attribute",
            f"  of the few-shot presets, --agent: {', '.join(learners.names())};",
            f"                           --env: {', '.join(families.names())}",
            "  --config FILE  settings in YAML: a run's config.yaml, or some over a preset's",
        ]
    )


if __name__ == "__main__":
    open_door(main, "the same command again continues from the last checkpoint")
