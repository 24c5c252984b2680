"""Tasks that a user gives, checked against a distribution's own.

    parsed(["mass=1.7,goal=1.0"], distribution)     words of a command line
    in_file("tasks.csv", distribution)              a JSON, YAML or CSV file
    checked([{"mass": 1.7, "goal": 1.0}], distribution)

Keys, types and lengths have to be those of a sample of the distribution. A value that training
never drew is allowed; `remarks` says which these are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from metarl.config.ranges import MOST_WHOLE
from metarl.envs import task_words
from metarl.envs.task_bounds import Between, Bounds, OneOf
from metarl.envs.task_words import Written
from metarl.errors import UserError, nearest
from metarl.runs.plain import plain
from metarl.text import shown
from metarl.types import Classes, Task

SAMPLED = 200
"""Training tasks, and as many held-out ones, that given ones are compared with."""
LONG = 300
"""Characters of a task after which a message cuts it."""
WIDE = 0.02
"""Share of a sample's width by which its ends may miss those of the distribution."""


def parsed(words: Sequence[str], distribution: Any, flag: str = "--task") -> list[Task]:
    """Returns the tasks in words such as `mass=1.7,goal=1.0`, one each.

    Args:
        distribution: a TaskDistribution or FewShotTasks, which the tasks have to fit.
        flag: the flag that gave the words, for messages.

    Raises:
        UserError: in two lines, for a word that is no task, and as `checked`.
    """
    return _fitted([task_words.of_word(word, flag) for word in words], distribution)


def in_file(path: Path | str, distribution: Any) -> list[Task]:
    """Returns the tasks in a JSON, YAML or CSV file; see `task_words.of_file`."""
    return _fitted(task_words.of_file(path), distribution)


def checked(tasks: Sequence[Any], distribution: Any, name: str = "own_tasks") -> list[Task]:
    """Returns tasks given as mappings, with values of the distribution's types.

    Raises:
        UserError: in two lines, for keys, types, lengths or values that do not fit.
    """
    if isinstance(tasks, Mapping | str) or not isinstance(tasks, Sequence):
        raise UserError(f"{name} is {shown(tasks)}\ngive a list of tasks, as [{{'mass': 1.7}}]")
    written = []
    for number, task in enumerate(tasks):
        place = f"{name}[{number}]"
        if not isinstance(task, Mapping):
            raise UserError(f"{place} is {shown(task)}\na task is a mapping, as {{'mass': 1.7}}")
        written.append(Written(place, {str(key): value for key, value in task.items()}))
    return _fitted(written, distribution)


def remarks(tasks: Sequence[Task], distribution: Any) -> list[str]:
    """Returns a line for each key of which some tasks have values that training never draws."""
    known, found = Known(distribution), []
    for key, bounds in known.bounds.items():
        values = [plain(task[key]) for task in tasks if key in task]
        strange = [value for value in values if not bounds.holds(value)]
        if strange:
            which = shown(strange[0]) if len(strange) == 1 else f"of {len(strange)} tasks"
            source = "" if key in known.stated else f", by {SAMPLED} of its tasks"
            found.append(f"{key} {which} is out of distribution: training has {bounds}{source}")
    return found


class Known:
    """Keys, types and bounds of a distribution's tasks."""

    def __init__(self, distribution: Any):
        self.distribution, self.name = distribution, distribution.spec.name
        drawn = {split: _drawn(distribution, split) for split in ("train", "test")}
        self.tasks = [*drawn["train"], *drawn["test"]]
        self.keys = {str(key): key for task in self.tasks for key in task}
        self.needed = set(self.keys).intersection(*(map(str, task) for task in self.tasks))
        self.stated: Mapping[str, Bounds] = getattr(distribution, "task_bounds", {})
        self.bounds = {
            name: self.stated.get(name) or _sampled([task[key] for task in drawn["train"]])
            for name, key in self.keys.items()
            if name in self.needed
        }

    def fitted(self, written: Written) -> Task:
        """Returns a task as the distribution would have drawn it; raises as `checked`."""
        values = task_words.joined(written.values, set(self.keys))
        if hasattr(self.distribution, "completed"):
            try:
                values = dict(self.distribution.completed(values))
            except ValueError as error:
                raise self._refused(f"{written.place}: {error}") from None
        unknown = [key for key in values if key not in self.keys]
        missing = sorted(self.needed - values.keys())
        if unknown:
            near = nearest(unknown[0], self.keys)
            raise self._refused(f"{written.place}: {shown(unknown[0])} is no key{near}")
        if missing:
            raise self._refused(f"{written.place}: {', '.join(missing)} is missing")
        return {
            self.keys[name]: self._value(f"{written.place}: {name}", name, value)
            for name, value in values.items()
        }

    def _value(self, place: str, name: str, given: Any) -> Any:
        own = [task[self.keys[name]] for task in self.tasks if self.keys[name] in task]
        try:
            value = plain(given)
        except UserError:
            raise self._refused(f"{place} is {shown(given)}; give finite values") from None
        try:
            value = _like(value, own)
        except ValueError as error:
            raise self._refused(f"{place} is {shown(given)}; expected {error}") from None
        bounds = self.stated.get(name)
        if bounds is not None and bounds.only and not bounds.holds(plain(value)):
            raise self._refused(f"{place} is {shown(given)}; expected {_choice(bounds, value)}")
        return value

    def _refused(self, message: str) -> UserError:
        word = as_word(self.tasks[0])
        such = word if len(word) <= LONG else f"{word[:LONG]}..."
        return UserError(f"{message}\na task of {self.name} is such as {such}")


def _choice(bounds: Bounds, value: Any) -> str:
    if isinstance(bounds, OneOf) and isinstance(value, str):
        return f"{bounds}{nearest(value, map(str, bounds.values), 1)}"
    return str(bounds)


def as_word(task: Task) -> str:
    """Returns a task as `--task` takes it."""
    return ",".join(f"{key}={_text(plain(value))}" for key, value in task.items())


def _text(value: Any) -> str:
    if isinstance(value, list) and len(value) > 1 and not any(isinstance(x, list) for x in value):
        return ",".join(map(_text, value))
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":"))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _fitted(written: Sequence[Written], distribution: Any) -> list[Task]:
    known = Known(distribution)
    return [known.fitted(one) for one in written]


def _drawn(distribution: Any, split: str) -> list[Task]:
    """Returns some tasks of a split."""
    if isinstance(distribution, Classes):
        return list(distribution.held_out(1, split))
    return list(distribution.sample(SAMPLED, np.random.default_rng(0), split))


def _sampled(values: Sequence[Any]) -> Bounds:
    """Returns the bounds of the values that a key has in a sample."""
    flat = [number for value in values for number in _leaves(plain(value))]
    if flat and all(isinstance(x, int | float) and not isinstance(x, bool) for x in flat):
        low, high = min(flat), max(flat)
        return Between(low, high, slack=WIDE * (high - low))
    known: list[Any] = []
    for value in map(plain, values):
        if value not in known:
            known.append(value)
    return OneOf(known)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]


def _like(value: Any, own: Sequence[Any]) -> Any:
    """Returns a plain value as the types that tasks have there.

    Raises:
        ValueError: for one of another type or length; it says what was expected.
    """
    for known in own:  # as it stands in the distribution: a member of an enumeration, a tuple
        if type(plain(known)) is type(value) and plain(known) == value:
            return deepcopy(known)
    first = own[0]
    if isinstance(first, Enum):
        members = list(type(first))
        chosen = [one for one in members if value in (one.name, plain(one))]
        if not chosen:
            raise ValueError(f"one of {', '.join(one.name for one in members)}")
        return chosen[0]
    forms = [plain(known) for known in own]
    if any(isinstance(form, list) for form in forms):
        return _list_like(value, own, [form for form in forms if isinstance(form, list)])
    if isinstance(forms[0], dict):
        return _mapping_like(value, [form for form in forms if isinstance(form, dict)])
    return _leaf_like(value, forms, first)


def _list_like(value: Any, own: Sequence[Any], forms: Sequence[list[Any]]) -> Any:
    lengths = {len(form) for form in forms}
    if not isinstance(value, list) and lengths == {1}:
        value = [value]
    if not isinstance(value, list) or (len(lengths) == 1 and len(value) not in lengths):
        number = f"{lengths.pop()} values" if len(lengths) == 1 else "values"
        raise ValueError(f"a list of {number}")
    together = [item for form in forms for item in form]
    if not together:
        raise ValueError("an empty list")
    same = len(lengths) == 1
    items = [
        _like(item, [form[place] for form in forms] if same else together)
        for place, item in enumerate(value)
    ]
    if isinstance(own[0], np.ndarray):
        return np.asarray(items, dtype=own[0].dtype)
    return tuple(items) if type(own[0]) is tuple else items


def _mapping_like(value: Any, forms: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != forms[0].keys():
        raise ValueError(f"a mapping with the keys {', '.join(forms[0])}")
    return {key: _like(item, [form[key] for form in forms if key in form]) for key, item in
            value.items()}  # fmt: skip


def _leaf_like(value: Any, forms: Sequence[Any], first: Any) -> Any:
    kinds = {type(form) for form in forms}
    number = type(value) in (int, float)
    if number and abs(value) > (MOST_WHOLE if isinstance(value, int) else np.finfo(float).max):
        raise ValueError("a number that is not as large")
    if number and float in kinds:
        value = float(value)
    if type(value) not in kinds:
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
        listed = [word for kind, word in words.items() if kind in kinds]
        raise ValueError(" or ".join(listed) or "another value")
    return type(first)(value) if isinstance(first, np.generic) else value
