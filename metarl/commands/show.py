"""`metarl show PRESET`: prints the whole resolved config as YAML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from metarl.commands import train
from metarl.config.command_line import wants_help
from metarl.config.files import dump
from metarl.errors import UserError
from metarl.experiments.assembly import run_config
from metarl.experiments.presets import PRESETS
from metarl.runs.directory import RunDirectory
from metarl.runs.seeds import first_seed, is_folder_of_seeds
from metarl.text import say

DESCRIPTION = """usage: metarl show PRESET [flags of `metarl train`]
       metarl show RUN

Prints every setting of a preset in YAML, as changed by --agent, --env, --config and single flags:
`metarl show PRESET > mine.yaml`, then `metarl train --config mine.yaml`. Of a run's folder it
prints the settings that the run was trained with."""


def main(argv: Sequence[str]) -> None:
    if wants_help(argv):
        say(DESCRIPTION)
        return
    name = argv[0] if argv else ""
    if not name:
        raise UserError(
            "no preset given; `metarl list presets` has them, as in metarl show point-goal"
        )
    if name not in PRESETS and RunDirectory(name).config.is_file():
        if len(argv) > 1:
            raise UserError(
                f"{argv[1]!r}: the settings of a run are shown as they are; leave it out"
            )
        say(dump(run_config(Path(name))).rstrip())
        return
    if name not in PRESETS and is_folder_of_seeds(name):
        raise UserError(f"{name} holds runs of seeds; show one of them, such as {first_seed(name)}")
    asked = train.resolved(argv)
    if asked.note:
        say(asked.note, error=True)
    folder = asked.config.run_dir if _names_folder(argv) else ""
    say(dump(replace(asked.config, run_dir=folder)).rstrip())


def _names_folder(argv: Sequence[str]) -> bool:
    return any(word.partition("=")[0] in ("--run-dir", "--run_dir") for word in argv)
