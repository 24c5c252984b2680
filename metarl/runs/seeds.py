"""Folders of seeds: runs/NAME with seed1, seed2, ..., each an ordinary run's folder.

`metarl train PRESET --seeds ...` makes them. Everything that takes several runs takes such a folder
for the runs in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from metarl.config.files import ADDED, RENAMED, read_mapping
from metarl.errors import UserError
from metarl.runs import places
from metarl.runs.directory import RunDirectory
from metarl.text import shown

NAME = re.compile(r"seed(0|[1-9]\d*)")
"""Names of the runs in a folder of seeds."""
MAY_DIFFER = frozenset(
    ("seed", "run_dir", "threads", "workers", "worker_timeout", "sampler", "ray_address", "actors")
)
"""Settings in which the seeds of one experiment may differ: results depend on no other than the
seed."""
_MISSING = object()


def seed_folder(root: Path | str, seed: int) -> Path:
    """Returns the folder of one seed's run in a folder of seeds."""
    return Path(root) / f"seed{seed}"


def seeds_of(path: Path | str) -> list[Path]:
    """Returns the runs' folders that a path names: [path] of a run, those of a folder of seeds.

    Those of seeds are sorted by the seed in their name; folders without a config.yaml, whose run
    has not begun, are left out.

    Raises:
        UserError: for a folder that is neither, and for one whose runs differ in more than the
            seed.
    """
    root = Path(path).expanduser()
    if RunDirectory(root).config.is_file():
        return [root]
    found = [folder for folder in begun(root) if RunDirectory(folder).config.is_file()]
    if not found:
        missing = "" if root.is_dir() else ": there is no such folder"
        missing = ": it is a file" if root.is_file() else missing
        raise UserError(
            f"{root} is no run, and no folder of seeds{missing}\n"
            "a run has a config.yaml; a folder of seeds has runs seed1, seed2, ..."
        )
    check_same_configs(found)
    return found


def is_folder_of_seeds(path: Path | str) -> bool:
    """Returns whether a folder is no run itself and has runs of seeds in it."""
    root = Path(path).expanduser()
    return not RunDirectory(root).config.is_file() and any(
        RunDirectory(folder).config.is_file() for folder in begun(root)
    )


def refuse_folder_of_seeds(path: Path | str, remedy: str) -> None:
    """Raises a UserError for a folder of seeds, in which no run of its own can be."""
    if is_folder_of_seeds(path):
        raise UserError(f"{path} holds runs of seeds; {remedy}")


def first_seed(path: Path | str) -> Path:
    """Returns the first run's folder in a folder of seeds, for messages; seed1 if there is none."""
    return next(iter(begun(Path(path).expanduser())), seed_folder(path, 1))


def begun(root: Path) -> list[Path]:
    """Returns the folders seed1, seed2, ... in a folder, in the order of the seeds.

    Raises:
        UserError: for a link that leads out of the folder.
    """
    try:
        named = [(int(name[1]), x) for x in root.iterdir() if (name := NAME.fullmatch(x.name))]
    except OSError:  # there is none, or it may not be read
        return []
    folders = [folder for _, folder in sorted(named)]
    places.check(root, folders, [])
    return folders


def check_same_configs(runs: Sequence[Path]) -> None:
    """Checks that runs differ in nothing but the seed, their folder, and the use of the machine.

    Raises:
        UserError: for two that differ; it names the first setting and both values.
    """
    first, *others = runs
    ours = _settings(first)
    for other in others:
        theirs = _settings(other)
        for key in (*ours, *(key for key in theirs if key not in ours)):
            before = ADDED.get(key, _MISSING)
            own, its = ours.get(key, before), theirs.get(key, before)
            if own != its:
                raise UserError(
                    f"{first} and {other.name} are no seeds of one experiment: "
                    f"{key} is {_told(own)} and {_told(its)}\n"
                    "move one of them to another folder"
                )


def _settings(run: Path) -> dict[str, Any]:
    """Returns a run's settings by dotted key, but for those that may differ."""
    flat = _flat(read_mapping(RunDirectory(run).config))
    return {key: value for key, value in flat if key not in MAY_DIFFER}


def _flat(settings: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        key = f"{path}{name}"
        key = f"{path}{RENAMED.get(key, name)}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _told(value: object) -> str:
    return "missing" if value is _MISSING else shown(value, 40)
