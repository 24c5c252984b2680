"""Configs as YAML files: written whole, read key by key with an error that names the wrong key.

Reading starts from a complete config, such as a preset's, whose dataclass *instances* define the
keys. So a field that may hold several rules is checked against its present one, without a tag.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from metarl.config import synonyms, yaml_text
from metarl.config.ranges import NO_FLAG, Range
from metarl.errors import UserError
from metarl.found import read_text
from metarl.text import shown

Record = TypeVar("Record")

MOST = 1 << 16
"""Bytes of a config."""

RENAMED = {"agent.inner.moved": "adapted"}
"""Keys as older files have them -> their present last word."""

ADDED = {
    "threads": "auto",
    "task_batch": 0,
    "act_on": "auto",
    "sampler": "local",
    "ray_address": "",
    "actors": "auto",
    "agent.inner.dice_lambda": 1.0,
    "agent.outer.target_kl": 0.0,
    "agent.network.strides": False,
}
"""Keys that older runs' files lack -> what those runs had, whatever the present default is."""

WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
}


def field_types(record: object) -> dict[str, Any]:
    """Returns field name -> annotation with its range, in the order of definition."""
    hints = get_type_hints(type(record), include_extras=True)
    return {field.name: hints[field.name] for field in fields(record)}  # pyright: ignore[reportArgumentType]


def flatten(record: object, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yields every leaf of a config as (dotted key, annotation, value)."""
    for name, annotation in field_types(record).items():
        value = getattr(record, name)
        if is_dataclass(value):
            yield from flatten(value, f"{path}{name}.")
        elif NO_FLAG not in getattr(annotation, "__metadata__", ()):
            yield path + name, annotation, value


def keys(record: object) -> dict[str, Any]:
    """Returns a config as dotted key -> value."""
    return {key: value for key, _, value in flatten(record)}


def dump(record: Any) -> str:
    """Returns all fields of a config as YAML."""
    return yaml.safe_dump(asdict(record), sort_keys=False)


def read_mapping(path: Path) -> dict[str, Any]:
    """Reads the settings in a YAML file; checks only that they are a mapping of text to values.

    Raises:
        UserError: if the file is missing, is no YAML or holds no mapping.
    """
    try:
        settings = yaml_text.parsed(read_text(path, MOST), str(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise UserError(
            f"{path} holds {shown(settings)}; expected keys and values, such as 'iterations: 100'"
        )
    return settings


def overlay(base: Record, settings: Mapping[str, Any], source: str) -> Record:
    """Returns `base` with a file's settings put in; errors name the file as `source`.

    Raises:
        UserError: for an unknown key, with the nearest one, or a value of another type.
    """
    return _overlay(base, settings, source, "", tuple(keys(base)))


def _overlay(
    base: Record, settings: Mapping[str, Any], source: str, path: str, known: tuple[str, ...]
) -> Record:
    changes: dict[str, Any] = {}
    hints = field_types(base)
    for given, value in settings.items():
        new = RENAMED.get(f"{path}{given}", given)
        name = new if given not in hints and new in hints else given
        if name in changes:
            raise UserError(f"{source}: {path}{given} is {path}{name} by its old name; give one")
        key = f"{path}{name}"
        if name not in hints:
            key = key if key.isprintable() and len(key) <= 80 else shown(key, 80)
            near = " or ".join(near_keys(key, known))
            instead = f"did you mean {near}?" if near else "`--help` lists the keys"
            raise UserError(f"{source}: {key} is no config key; {instead}")
        current = getattr(base, name)
        if not is_dataclass(current):
            changes[name] = _fitted(value, hints[name], f"{source}: {key}", current)
        elif isinstance(value, Mapping):
            changes[name] = _overlay(current, value, source, f"{key}.", known)
        else:
            inside = ", ".join(field_types(current))
            raise UserError(f"{source}: {key} is {_shown(value)}; expected the keys {inside}")
    return replace(base, **changes)  # pyright: ignore[reportArgumentType]


def near_keys(key: str, known: Iterable[str]) -> list[str]:
    """Returns likely intended keys: those with the same last part, those that other projects call
    so, else the closest spelling, also of a last part."""
    known = list(known)
    last = key.rpartition(".")[2]
    same = [other for other in known if other.rpartition(".")[2] == last]
    if found := same[:3] or synonyms.meant(key, known) or get_close_matches(key, known, n=1):
        return found
    near = get_close_matches(last, [other.rpartition(".")[2] for other in known], n=1, cutoff=0.7)
    return [other for other in known if other.rpartition(".")[2] in near][:3]


def _fitted(value: Any, annotation: Any, place: str, current: Any) -> Any:
    try:
        return fit(value, annotation)
    except ValueError:
        instead = f", such as {_shown(current)}" if current not in ("", ()) else ""
        raise UserError(
            f"{place} is {_shown(value)}; expected {expected(annotation)}{instead}"
        ) from None


def fit(value: Any, annotation: Any) -> Any:
    """Converts `value` to its annotation's type (list to tuple, int to float).

    Raises:
        ValueError: where it cannot be converted.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return fit(value, arguments[0])
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
    elif origin in (Union, UnionType):
        for alternative in arguments:
            with suppress(ValueError):
                return fit(value, alternative)
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return tuple(fit(item, arguments[0]) for item in value)
    elif annotation is float and not isinstance(value, bool):
        with suppress(TypeError, OverflowError):
            return float(value)  # text too: YAML 1.1 reads 1e-5, which has no dot, as text
    elif annotation is Path and isinstance(value, str):
        return Path(value)
    elif isinstance(value, bool) is (annotation is bool) and isinstance(value, annotation):
        return value
    raise ValueError(f"{value!r} does not fit")


def expected(annotation: Any) -> str:
    """Returns an annotation in words, such as "a whole number or 'auto'"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [str(extra) for extra in arguments[1:] if isinstance(extra, Range)]
        return " ".join([expected(arguments[0]), *bounds])
    if origin is Literal:
        return " or ".join(repr(choice) for choice in arguments)
    if origin in (Union, UnionType):
        return " or ".join(expected(alternative) for alternative in arguments)
    if origin is tuple:
        return f"a list, each {expected(arguments[0])}"
    return WORDS[annotation]


def _shown(value: Any) -> str:
    """Returns a value for a message, with a list as YAML writes it."""
    return shown(list(value) if isinstance(value, tuple) else value)
