"""Evaluations of a run by name, none of which replaces another without a word.

    evaluation/             on held-out tasks
    evaluation/train/       on training tasks
    evaluation/own/         on tasks of the user's own
    evaluation/other/       on another distribution
    evaluation/NAME/        any of these, by `--name NAME`
    evaluation/earlier-1/   one of the first four that another one replaced

A name is given to one evaluation: with other settings or weights it is refused. Of evaluations
without a name the earlier is kept, unless it has the same settings and weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from metarl import found
from metarl.errors import UserError
from metarl.runs import publish
from metarl.runs.adaptation import Adaptation, read_json
from metarl.runs.bounds import MOST_BYTES
from metarl.runs.directory import NAME, UNNAMED, Evaluation, RunDirectory, names_in
from metarl.text import shown

EARLIER = re.compile(r"earlier-([1-9][0-9]{0,8})")
"""Names of evaluations that were kept."""
SETTINGS = "settings"
"""Key of `made_from` with all that decides an evaluation's numbers, but for the machine."""


def evaluations_of(run: RunDirectory) -> list[tuple[str, Evaluation]]:
    """Returns the names of a run's evaluations with the paths of their files.

    Those without a name come first, as `test`, `train`, `own` and `other`; kept ones come last. A
    set that a killed process left is among them: `publish.seen` says where its files are.
    """
    found = []
    for name in sorted(names_in(run.evaluation.root), key=_order):
        files = run.evaluation_of(name)
        if publish.seen(run, name, files.adaptation_json).exists():
            found.append((name, files))
    return found


def _order(name: str) -> tuple[int, int, str]:
    if name in UNNAMED:
        return 0, UNNAMED.index(name), ""
    earlier = EARLIER.fullmatch(name)
    return (2, int(earlier[1]), "") if earlier else (1, 0, name)


def check_name(name: str) -> str:
    """Returns a name for an evaluation.

    Raises:
        UserError: for one that metarl uses itself, and for what is no plain name.
    """
    if not NAME.fullmatch(name):
        raise UserError(
            f"--name is {shown(name)}, no name of an evaluation\n"
            "give up to 64 letters, digits, - and _, and begin with a letter or a digit"
        )
    if name.lower() in UNNAMED or name.lower().startswith("earlier-"):
        raise UserError(
            f"--name is {name!r}, which metarl itself gives to evaluations\n"
            f"give another, such as {name}-tasks"
        )
    return name


def differences(
    asked: Mapping[str, Any], there: Adaptation, unknown: Sequence[str] = ()
) -> list[str]:
    """Returns the settings in which an evaluation that is there differs from one asked for, but for
    those that are `unknown` yet."""
    stored = there.made_from.get(SETTINGS)
    if not isinstance(stored, Mapping):
        return ["it has no record of its settings"]
    return [
        f"{key} {shown(stored.get(key))} (asked for: {shown(asked.get(key))})"
        for key in {**asked, **stored}
        if asked.get(key) != stored.get(key) and key not in unknown
    ]


def check_free(run: RunDirectory, name: str, asked: Mapping[str, Any], *unknown: str) -> None:
    """Checks that a name of the user's holds no other evaluation than the one asked for.

    Args:
        unknown: settings that are not known yet.

    Raises:
        UserError: where it does.
    """
    files = run.evaluation_of(name)
    if name in UNNAMED or not _present(files):
        return
    changed: list[str] = ["no numbers"]
    if files.adaptation_json.exists():
        try:
            changed = differences(asked, read_json(files.adaptation_json), unknown)
        except UserError:
            changed = ["it cannot be read"]
    if changed:
        more = f" and {len(changed) - 2} more" if len(changed) > 2 else ""
        raise UserError(
            f"{files.root} holds another evaluation: {', '.join(changed[:2])}{more}\n"
            f"give another --name, or remove it: `rm -r {quote(str(files.root))}`"
        )


def make_room(run: RunDirectory, name: str, asked: Mapping[str, Any]) -> str:
    """Keeps the evaluation that one without a name is going to replace, if it is another.

    The caller is within `publishing`.

    Returns:
        The name that it is kept by; empty where there is nothing to keep.

    Raises:
        UserError: where it cannot be kept; and for a name of the user's, as `check_free`.
    """
    check_free(run, name, asked)
    files = run.evaluation_of(name)
    present = _present(files)
    if name not in UNNAMED or not present or _same(files, asked):
        return ""
    contents = {path.name: found.read(path, MOST_BYTES) for path in present}
    contents = {file: content for file, content in contents.items() if content}
    kept = [each for each in names_in(run.evaluation.root) if EARLIER.fullmatch(each)]
    for each in kept:  # by a process that was killed before it replaced them
        if _holds(run.evaluation_of(each), contents):
            return ""
    number = max((int(each.partition("-")[2]) for each in kept), default=0) + 1
    while (run.evaluation.root / f"earlier-{number}").exists():
        number += 1
    publish.publish(run, f"earlier-{number}", contents)
    return f"earlier-{number}"


def _present(files: Evaluation) -> list[Path]:
    return [path for path in files.files if path.exists()]


def _same(files: Evaluation, asked: Mapping[str, Any]) -> bool:
    """Returns whether an evaluation has the settings that are asked for."""
    try:
        return not differences(asked, read_json(files.adaptation_json))
    except UserError:  # nobody can tell: it is kept
        return False


def _holds(files: Evaluation, contents: Mapping[str, bytes]) -> bool:
    """Returns whether these files are those of an evaluation."""
    if {path.name for path in _present(files)} != contents.keys():
        return False
    return all(found.read(files.root / name, MOST_BYTES) == x for name, x in contents.items())
