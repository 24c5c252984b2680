"""Reads tasks that a user writes, on a command line or into a file, as keys and plain values.

    mass=1.7,goal=1.0       goal=0.1,-0.2        goal=[0.1,-0.2]        {"goal": [0.1, -0.2]}

Whether a distribution has such tasks is checked by `given_tasks.py`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from metarl import found
from metarl.config import yaml_text
from metarl.errors import UserError
from metarl.text import shown

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
OPENED, CLOSED = "[{(", "]})"
ENDINGS = (".json", ".yaml", ".yml", ".csv")
MOST_TASKS = 10_000
"""Tasks of a file; so many already take hours."""


class Written(NamedTuple):
    """A task as it is written, and where."""

    place: str
    values: dict[str, Any]


def of_word(word: str, flag: str = "--task") -> Written:
    """Returns the task in a word such as `mass=1.7,goal=1.0`.

    A part without a key is one more number of the list before it.

    Raises:
        UserError: for a part that belongs to no key, a key that comes twice, and no JSON.
    """
    place = f"{flag} {shown(word)}"
    if word.lstrip().startswith("{"):
        return Written(place, found.parsed(word.encode(errors="replace"), place, constants=True))
    values: dict[str, Any] = {}
    more: dict[str, list[Any]] = {}
    key = ""
    for part in _parts(word):
        name, equals, text = _halves(part)
        if equals and name in values:
            raise UserError(f"{place}: {shown(name)} comes twice\ngive each key once")
        if equals and name:
            key, values[name] = name, value_of(text)
        elif key and not equals and part.strip():
            more.setdefault(key, [values[key]]).append(value_of(part))
        else:
            raise UserError(
                f"{place}: {shown(part)} is no KEY=VALUE\n"
                "write a task as mass=1.7,goal=1.0, and a list as goal=0.1,-0.2"
            )
    return Written(place, {**values, **more})


def _parts(word: str) -> Iterator[str]:
    """Yields the parts between commas that are in no brackets and no quotes."""
    start, depth, quote = 0, 0, ""
    for at, char in enumerate(word):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in OPENED + CLOSED:
            depth += 1 if char in OPENED else -1
        elif char == "," and depth <= 0:
            yield word[start:at]
            start = at + 1
    yield word[start:]


def _halves(part: str) -> tuple[str, str, str]:
    name, equals, text = part.partition("=")
    return name.strip(), equals, text.strip()


def value_of(text: str) -> Any:
    """Returns a number, a list, a truth value or text."""
    text = text.strip()
    if NUMBER.fullmatch(text):
        whole = text.lstrip("+-").isdigit()
        return int(text) if whole and len(text) <= yaml_text.DIGITS else float(text)
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text[:1] in ("[", "{", '"'):
        try:
            document = f'{{"value":{text}}}'.encode(errors="replace")
            return found.parsed(document, "a value", constants=True)["value"]
        except UserError:
            return text
    return text


def of_file(path: Path | str) -> list[Written]:
    """Returns the tasks in a JSON, YAML or CSV file.

    JSON and YAML hold a list of tasks, one task, or `tasks` with such a list, as adaptation.json
    does. CSV has a column for each key, or for each number of a list: goal[0], goal[1].

    Raises:
        UserError: for a file that cannot be read, of another kind, or with something else in it.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"{path} is no file of tasks\ngive one that ends in {', '.join(ENDINGS)}")
    try:
        text = found.read_text(path).removeprefix("\ufeff")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}\ngive another file") from error
    written = list(_of_csv(path, text) if path.suffix.lower() == ".csv" else _of_data(path, text))
    if not 0 < len(written) <= MOST_TASKS:
        raise UserError(
            f"{path} holds {len(written):,} tasks\ngive at least one, and at most {MOST_TASKS:,}"
        )
    return written


def _of_data(path: Path, text: str) -> Iterator[Written]:
    if path.suffix.lower() == ".json":
        whole = f'{{"file":{text}}}'.encode()
        tasks = found.parsed(whole, str(path), constants=True)["file"]
    else:
        tasks = yaml_text.parsed(text, str(path))
    if isinstance(tasks, dict):
        tasks = tasks["tasks"] if isinstance(tasks.get("tasks"), list) else [tasks]
    for number, task in enumerate(tasks if isinstance(tasks, list) else [tasks], start=1):
        place = f"{path}, task {number}"
        if not isinstance(task, dict):
            raise UserError(f"{place} is {shown(task)}\na task has keys and values, as mass: 1.7")
        yield Written(place, task)


def _of_csv(path: Path, text: str) -> Iterator[Written]:
    try:
        lines = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise UserError(f"{path} is no CSV: {error}\nwrite a line for each task") from None
    names = [name.strip() for name in lines[0]] if lines else []
    if len(set(names)) < len(names) or not all(names):
        raise UserError(
            f"{path}, line 1: {shown(names)} are no names of columns\n"
            "the first line has the tasks' keys, each once"
        )
    for number, line in enumerate(lines[1:], start=2):
        if not line:
            continue
        place = f"{path}, line {number}"
        if len(line) != len(names):
            raise UserError(
                f"{place} has {len(line)} values, and line 1 {len(names)} keys\n"
                "give a value for each key, and put a list into quotes or into several columns"
            )
        values = map(value_of, line)
        yield Written(place, dict(zip(names, values, strict=True)))


def joined(values: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """Returns a task's values with goal[0], goal[1], ... as the list `goal`, where `known` keys
    have a goal and no goal[0]."""
    whole: dict[str, Any] = {}
    lists: dict[str, dict[int, Any]] = {}
    for name, value in values.items():
        one = re.fullmatch(r"(.+)\[(\d{1,4})\]", name)
        if one and name not in known and one[1] in known:
            lists.setdefault(one[1], {})[int(one[2])] = value
        else:
            whole[name] = value
    for name, items in lists.items():
        if sorted(items) == list(range(len(items))) and name not in whole:
            whole[name] = [items[place] for place in range(len(items))]
        else:  # a number is missing: the check names the keys
            whole |= {f"{name}[{place}]": item for place, item in items.items()}
    return whole
