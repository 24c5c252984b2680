"""Runs that ship with metarl: where they are, and what each has learned.

In a checkout they are the runs under results/ that have weights. A wheel has copies of them in the
package (setup.py). `pretrained:NAME` stands for such a run wherever a command takes one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from metarl import found
from metarl.config.files import read_mapping
from metarl.errors import UserError, nearest
from metarl.runs.directory import RunDirectory
from metarl.text import printable

PREFIX = "pretrained:"
DEPTH = 3
"""Levels of folders that are searched for runs."""
MOST_FOLDERS = 2000
"""Folders that are looked at."""
_PACKAGE = Path(__file__).parents[1]


class Pretrained(NamedTuple):
    """A run with weights."""

    name: str
    agent: str
    env: str
    iterations: int
    """Meta-iterations after which the weights were saved."""
    experience: str
    """Environment steps or tasks that it learned from; empty where its metrics are missing."""
    adapted: str
    """Result before and after adaptation to held-out tasks; empty where it was not evaluated."""
    bytes: int
    """Size of the weights."""
    path: Path


def shipped() -> Path:
    """Returns the folder of the runs that ship with metarl; there may be none."""
    installed, checkout = _PACKAGE / "pretrained_runs", _PACKAGE.parent / "results"
    return checkout if (_PACKAGE.parent / "pyproject.toml").is_file() else installed


def folders(root: Path) -> dict[str, Path]:
    """Returns the folders of runs with weights below a folder, by their names relative to it."""
    return {
        run.relative_to(root).as_posix() if run != root else root.resolve().name: run
        for run in _runs(root)
    }


def is_pretrained(word: str | Path) -> bool:
    """Returns whether a run that ships with metarl is named, which is only read."""
    return str(word).startswith(PREFIX)


def run_place(word: str | Path) -> Path:
    """Returns the folder of a run that a command line or a caller names, also `pretrained:NAME`.

    Raises:
        UserError: for a name that none of the runs that ship has.
    """
    if not is_pretrained(word):
        return Path(word).expanduser()
    name, known = str(word).removeprefix(PREFIX), folders(shipped())
    if name in known:
        return known[name]
    last = [full for full in known if full.rpartition("/")[2] == name]
    if len(last) == 1:
        return known[last[0]]
    if len(last) > 1:
        raise UserError(f"{name!r} may be {' or '.join(PREFIX + full for full in last)}")
    if not known:
        raise UserError(f"{name!r}: no runs ship with this copy of metarl; give a run's folder")
    raise UserError(
        f"{name!r} is no run that ships with metarl{nearest(name.lower(), known)}\n"
        "`metarl pretrained` lists them"
    )


def described(root: Path) -> list[Pretrained]:
    """Returns the runs with weights below a folder.

    Raises:
        UserError: for files that are damaged.
    """
    return [_described(name, run) for name, run in folders(root).items()]


def _described(name: str, place: Path) -> Pretrained:
    run = RunDirectory(place)
    settings = read_mapping(run.config)
    weights = max(run.checkpoints.glob("*/agent.safetensors"), key=lambda path: path.parent.name)
    return Pretrained(
        name,
        _name_in(settings, "agent"),
        _name_in(settings, "env"),
        int(weights.parent.name) if weights.parent.name.isdecimal() else 0,
        _experience(run.metrics),
        _adapted(run.evaluation.adaptation_json),
        weights.stat().st_size,
        place,
    )


def _name_in(settings: dict[str, Any], section: str) -> str:
    inside = settings.get(section)
    return str(inside.get("name", "")) if isinstance(inside, dict) else ""


def _adapted(file: Path) -> str:
    """Returns the mean result of an evaluation in words, such as "return -105.3 -> -31.2"."""
    if not file.is_file():
        return ""
    document = found.json_object(file, found.LARGE)
    summary, measure = document.get("summary"), document.get("measure", "return")
    means = summary.get("mean") if isinstance(summary, dict) else None
    if not (isinstance(means, list) and means and all(isinstance(x, float | int) for x in means)):
        return ""
    return f"{printable(str(measure))[:20]} {means[0]:.4g} -> {means[-1]:.4g}"


def _experience(metrics: Path) -> str:
    """Returns how much a run has learned from, such as "38M steps", by its last metrics."""
    if not metrics.is_file():
        return ""
    last = found.read(metrics, found.LARGE).rstrip().rpartition(b"\n")[2]
    row = found.parsed(last or b"{}", str(metrics))
    for key, word in (("tasks", "tasks"), ("env_steps", "steps")):
        if isinstance(row.get(key), int | float):
            return f"{_short(row[key])} {word}"
    return ""


def _short(number: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:g}"


def _runs(root: Path) -> Iterator[Path]:
    """Yields the folders with settings and weights, at most `DEPTH` levels below `root`."""
    waiting, seen = [(root, 0)], 0
    while waiting:
        folder, depth = waiting.pop(0)
        seen += 1
        if seen > MOST_FOLDERS:
            raise UserError(f"{root} has more than {MOST_FOLDERS} folders; name one inside of it")
        run = RunDirectory(folder)
        if run.config.is_file() and any(run.checkpoints.glob("*/agent.safetensors")):
            yield folder
        elif depth < DEPTH:
            inside = sorted(entry.name for entry in _entries(folder))
            waiting += [(folder / name, depth + 1) for name in inside]


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from (x for x in entries if x.is_dir(follow_symlinks=False))
    except OSError:
        return
