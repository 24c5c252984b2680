"""The commands: each module has a `main` that takes the words after the command's name."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from metarl.config.door import open_door


class Command(NamedTuple):
    """A command of `metarl`."""

    module: str
    summary: str
    """A line for `metarl --help`."""
    when_stopped: str = ""
    """What Ctrl-C leaves, for the message."""


COMMANDS = {
    "train": Command(
        "metarl.commands.train",
        "meta-train an agent, or continue a run",
        "the same command again continues from the last checkpoint",
    ),
    "evaluate": Command(
        "metarl.commands.evaluate",
        "adapt a trained agent to held-out tasks",
        "an evaluation is written only when it is whole",
    ),
    "record": Command(
        "metarl.commands.record",
        "film a trained agent before and after adaptation",
        "a film is written only when it is whole",
    ),
    "report": Command("metarl.commands.report", "write a run as one HTML page"),
    "compare": Command("metarl.commands.compare", "compare learners over seeds and tasks"),
    "check-env": Command("metarl.commands.check_env", "check tasks before training on them"),
    "doctor": Command("metarl.commands.doctor", "check runs' folders and say what to do"),
}


def run(name: str) -> None:
    """Runs a command on the words of the command line that follow its name."""
    command = COMMANDS[name]
    open_door(import_module(command.module).main, command.when_stopped)
