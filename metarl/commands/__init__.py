"""The commands: each module has a `main` that takes the words after the command's name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from metarl.config.door import open_door
from metarl.errors import UserError


class Command(NamedTuple):
    """A command of `metarl`."""

    module: str
    summary: str
    """A line for `metarl --help`."""
    when_stopped: str = ""
    """Words of the message after Ctrl-C: how to go on, or what is left."""
    out_of_pretrained: str = ""
    """The value of --out where a run that ships with metarl is named without it: it is only read.
    Empty for commands that write nothing into a run's folder."""
    writes_runs: bool = False
    """Whether it makes or continues runs."""


COMMANDS = {
    "train": Command(
        "metarl.commands.train",
        "meta-train an agent, or continue a run",
        "the same command again continues from the last checkpoint",
        writes_runs=True,
    ),
    "evaluate": Command(
        "metarl.commands.evaluate",
        "adapt a trained agent to held-out tasks",
        "an evaluation is written only when it is whole",
        out_of_pretrained="evaluation-{name}",
    ),
    "list": Command("metarl.commands.listing", "list agents, presets or envs by name"),
    "show": Command("metarl.commands.show", "print all settings of a preset or a run"),
    "pretrained": Command("metarl.commands.pretrained", "list trained runs that ship with metarl"),
    "completion": Command("metarl.commands.completion", "print a shell's completion script"),
    "report": Command(
        "metarl.commands.report",
        "write a run as one HTML page",
        out_of_pretrained="{name}.html",
    ),
    "record": Command(
        "metarl.commands.record",
        "film a trained agent before and after adaptation",
        "a film is written only when it is whole",
        out_of_pretrained="{name}.gif",
    ),
    "export": Command(
        "metarl.commands.export",
        "adapt a trained agent to one task and save its policy",
        "a policy is written only when it is whole",
    ),
    "compare": Command("metarl.commands.compare", "compare learners over seeds and tasks"),
    "sweep": Command(
        "metarl.commands.sweep",
        "search for good settings",
        "the same command again continues the sweep",
        writes_runs=True,
    ),
    "check-env": Command("metarl.commands.check_env", "check tasks before training on them"),
    "doctor": Command("metarl.commands.doctor", "check runs' folders and say what to do"),
}


def run(name: str) -> None:
    """Runs a command on the words of the command line that follow its name."""
    command = COMMANDS[name]

    def door(argv: Sequence[str]) -> object:
        return import_module(command.module).main(_placed(argv, command))

    open_door(door, command.when_stopped)


def _placed(argv: Sequence[str], command: Command) -> list[str]:
    """Returns the words with the folder of each run for which `pretrained:NAME` stands.

    Raises:
        UserError: for an unknown name, and where the command would go on with such a run.
    """
    if not any("pretrained:" in word for word in argv):
        return list(argv)
    from metarl.runs.pretrained import PREFIX, is_pretrained, run_place

    words, only_read = [], ""
    for i, word in enumerate(argv):
        flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if not is_pretrained(value):
            words.append(word)
            continue
        place = run_place(value)
        if (flag or argv[i - 1] if i else "") in ("", "--run-dir", "--run_dir"):
            only_read = place.name  # the run of the command, and not one of --against
        words.append(f"{flag}{equals}{place}")
    if only_read and command.writes_runs:
        raise UserError(f"runs that ship are only read; {PREFIX}NAME is for metarl evaluate RUN")
    if only_read and command.out_of_pretrained and not any(_is_out(word) for word in argv):
        words += ["--out", command.out_of_pretrained.format(name=only_read)]
    return words


def _is_out(word: str) -> bool:
    return word.partition("=")[0] == "--out"
