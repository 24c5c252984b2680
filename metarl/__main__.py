"""`metarl COMMAND ...` and `python -m metarl COMMAND ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from metarl import __version__
from metarl.commands import COMMANDS, run
from metarl.config.door import open_door
from metarl.errors import UserError, nearest
from metarl.text import say, shown


def main() -> None:
    """Runs the command that the first word of the command line names."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in COMMANDS:
        sys.argv[:2] = [f"metarl {name}"]
        run(name)
    else:
        open_door(_without_command)


def _without_command(argv: Sequence[str]) -> None:
    """Prints the help or the version; raises a UserError for a word that is no command."""
    match list(argv):
        case [] | ["-h" | "--help" | "--help=all" | "help", *_]:
            say(_help())
        case ["--version"]:
            say(f"metarl {__version__}")
        case [word, *_] if word in _preset_names():
            raise UserError(f"{word!r} is a preset; the command comes first: metarl train {word}")
        case [word, *_]:
            near = nearest(word, list(COMMANDS), count=1)
            raise UserError(f"{shown(word)} is no command{near}\n`metarl --help` describes them")


def _preset_names() -> Sequence[str]:
    from metarl.experiments.presets import PRESETS

    return list(PRESETS)


def _help() -> str:
    width = max(map(len, COMMANDS)) + 2
    return "\n".join(
        [
            "usage: metarl COMMAND ...",
            "",
            "Meta-reinforcement learning: agents that learn a new task from a few episodes.",
            "",
            *(f"  {name:<{width}}{command.summary}" for name, command in COMMANDS.items()),
            "",
            "RUN is a run's folder, a folder of seeds, or `pretrained:NAME`.",
            "`metarl COMMAND --help` has the flags of a command.",
        ]
    )


if __name__ == "__main__":
    main()
