"""`metarl completion bash|zsh|fish`: prints a script that completes the words of `metarl`.

The script holds all names, so a completion starts no Python; print it again after an update.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import NamedTuple, get_args

from metarl.agents import catalogue as agents
from metarl.commands import COMMANDS, scripts
from metarl.commands.listing import WHAT
from metarl.config.command_line import flags as flags_of
from metarl.config.command_line import wants_help
from metarl.config.files import flatten
from metarl.config.settings import Config, FewShotConfig
from metarl.envs import catalogue as envs
from metarl.envs.entry import PLACEHOLDERS
from metarl.envs.metaworld.classes import CLASSES
from metarl.envs.supervised import families
from metarl.errors import UserError, nearest
from metarl.experiments.presets import PRESETS
from metarl.runs.pretrained import PREFIX, folders, shipped
from metarl.text import say

SHELLS = ("bash", "zsh", "fish")
DESCRIPTION = """usage: metarl completion bash|zsh|fish

Prints a script for a shell, which then completes commands, presets, agents, tasks, flags and runs:
  bash   eval "$(metarl completion bash)"                 in ~/.bashrc
  zsh    eval "$(metarl completion zsh)"                  in ~/.zshrc, after compinit
  fish   metarl completion fish | source                  in ~/.config/fish/config.fish
The script holds all names: it is quick, and is printed again after an update of metarl."""

_FLAG = re.compile(r"(?<![\w-])--[a-z][\w.-]*")
_CHOICES = re.compile(r"(--[\w.-]+) \[?(?:[A-Z]+\|)?\{([^}\n]+)\}")


class Words(NamedTuple):
    """Words that may follow a command."""

    flags: tuple[str, ...]
    values: dict[str, tuple[str, ...]]
    """Flag -> its values, where they are names."""
    names: tuple[str, ...]
    """First words, such as presets."""
    takes_runs: bool
    """Whether the folders of runs may follow."""


def main(argv: Sequence[str]) -> None:
    if wants_help(argv):
        say(DESCRIPTION)
        return
    if not argv:
        raise UserError(f"which shell? there are {', '.join(SHELLS)}: metarl completion bash")
    shell, *more = argv
    if shell not in SHELLS:
        raise UserError(f"{shell!r} is no shell that is known{nearest(shell, SHELLS)}")
    if more:
        raise UserError(f"{more[0]!r} belongs to nothing; give the shell alone")
    summaries = {name: command.summary for name, command in COMMANDS.items()}
    say(scripts.SCRIPTS[shell](summaries, {name: words_of(name) for name in COMMANDS}))


def env_names() -> tuple[str, ...]:
    """Returns the names of tasks that can be given as they are: an ml1 for each class."""
    plain = [name for name in envs.names() if name.partition(":")[2] not in PLACEHOLDERS]
    return (*plain, *(f"ml1:{name}" for name in CLASSES), *families.names())


def agent_names() -> tuple[str, ...]:
    return tuple(dict.fromkeys((*agents.names("episodes"), *agents.names("examples"))))


@cache
def words_of(command: str) -> Words:
    """Returns what may follow a command, most of it by the command's own help."""
    text = _help(command)
    flags = dict.fromkeys(_FLAG.findall(text))
    values = {flag: tuple(x.split(",")) for flag, x in _CHOICES.findall(text)}
    if command in ("train", "show", "sweep"):
        flags |= dict.fromkeys(_flags_of_training())
        values |= _values_of_training()
    flags |= dict.fromkeys(["--help"])
    if "--agent" in flags or command == "evaluate":
        values["--agent"] = agent_names()
    if "--env" in flags or command == "evaluate":
        values["--env"] = env_names()
    names = {
        **dict.fromkeys(("train", "show", "sweep"), tuple(PRESETS)),
        "list": WHAT,
        "completion": SHELLS,
        "check-env": env_names(),
        "pretrained": (),
    }
    if command == "list":
        values["--kind"] = ("episodes", "examples")
    runs = command not in names or command == "show"
    own = names.get(command, ())
    if runs and command != "show":
        own = tuple(PREFIX + name for name in folders(shipped()))
    return Words(tuple(flags), values, own, runs)


def _help(command: str) -> str:
    """Returns what `metarl COMMAND --help all` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        import_module(COMMANDS[command].module).main(["--help", "all"])
    return printed.getvalue()


def _flags_of_training() -> Iterator[str]:
    """Yields the flags of all agents on all tasks."""
    yield from ("--agent", "--env", "--config", "--seeds", "--match-budget")
    for config in _configs():
        yield from flags_of(config)


def _values_of_training() -> dict[str, tuple[str, ...]]:
    found = {}
    for config in _configs():
        for key, annotation, _ in flatten(config):
            choices = [x for part in (annotation, *get_args(annotation)) for x in get_args(part)]
            if words := tuple(x for x in choices if isinstance(x, str)):
                found[f"--{key.replace('_', '-')}"] = tuple(dict.fromkeys(words))
    return found


def _configs() -> Iterator[Config | FewShotConfig]:
    for name in agents.names("episodes"):
        yield Config(agent=agents.default(name))
    for name in agents.names("examples"):
        yield FewShotConfig(agent=agents.default(name, "examples"))
