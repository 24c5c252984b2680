"""Checks of a config beyond its types: ranges, and agreement with the run that it continues."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Union, get_args, get_origin

from metarl.config.files import flatten, keys
from metarl.config.ranges import Range
from metarl.config.settings import AnyConfig
from metarl.config.yaml_text import LONGEST
from metarl.errors import UserError
from metarl.text import shown

FREE_TO_CHANGE = (
    "iterations",
    "device",
    "threads",
    "workers",
    "worker_timeout",
    "task_batch",
    "act_on",
    "sampler",
    "ray_address",
    "actors",
    "checkpoint_every",
    "run_dir",
    "evaluation.",
    "env.path",
)
"""Keys that may change when a run is continued. None changes what an iteration computes, except
that another device, `task_batch` or place to act, like another machine, may round differently. The
data at another `env.path` have to be the same (experiments/data.py)."""


MOST_ITEMS = 100
"""Items of a list, such as the layers of a network."""


def check_ranges(record: object, source: str = "") -> None:
    """Raises a UserError for the first number outside its field's range, for a list that is too
    long, and for text that can be no name."""
    for key, annotation, value in flatten(record):
        place = f"{source}: {key}" if source else key
        for item, allowed in _ranged(value, annotation):
            if item not in allowed:
                number = shown(item) if isinstance(item, int) else item
                raise UserError(f"{place} is {number}; it must be {allowed.demand(item)}")
        items = value if isinstance(value, tuple) else (value,)
        if len(items) > MOST_ITEMS:
            raise UserError(f"{place} has {len(items)} items; the most is {MOST_ITEMS}")
        for item in items:
            if isinstance(item, str | Path):
                check_text(str(item), place)


def check_text(text: str, place: str) -> None:
    """Raises a UserError for text that can be neither a name nor a path."""
    if len(text) > LONGEST:
        raise UserError(f"{place} has {len(text):,} characters; the most is {LONGEST}")
    try:
        if "\0" in text:
            raise ValueError("it holds a zero byte")
        os.fsencode(text)
        Path(text).expanduser()
    except UnicodeEncodeError as error:
        raise UserError(f"{place} is {shown(text)}, no text: {error.reason}") from None
    except (ValueError, RuntimeError) as error:  # such as ~somebody, who is no user here
        raise UserError(f"{place} is {shown(text)}, no name or path: {error}") from None


def in_range(record: object) -> bool:
    """Returns whether each number of a config is inside its field's range."""
    return all(
        item in allowed
        for _, annotation, value in flatten(record)
        for item, allowed in _ranged(value, annotation)
    )


def _ranged(value: Any, annotation: Any) -> Iterator[tuple[Any, Range]]:
    """Yields every number in `value` with the range in its annotation."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated and not isinstance(value, str):
        yield from ((value, extra) for extra in arguments[1:] if isinstance(extra, Range))
    elif origin is Union:
        for alternative in arguments:
            yield from _ranged(value, alternative)
    elif origin is tuple:
        for item in value:
            yield from _ranged(item, arguments[0])


def differences(config: AnyConfig, stored: AnyConfig) -> dict[str, tuple[Any, Any]]:
    """Returns the changed keys that a continued run may not change: key -> (asked for, stored)."""
    asked, kept = keys(config), keys(stored)
    return {
        key: (asked.get(key), kept.get(key))
        for key in {**asked, **kept}
        if asked.get(key) != kept.get(key) and not key.startswith(FREE_TO_CHANGE)
    }


def check_continues(config: AnyConfig, stored: AnyConfig, run_dir: Path) -> None:
    """Raises a UserError that lists the keys in which `config` differs from the stored run."""
    changed = differences(config, stored)
    if not changed:
        return
    listed = [f"{key} {kept} (asked for: {asked})" for key, (asked, kept) in changed.items()]
    more = f" and {len(listed) - 4} more" if len(listed) > 4 else ""
    raise UserError(
        f"{run_dir} holds a run with other settings: {', '.join(listed[:4])}{more}\n"
        f"continue it with --config {quote(str(run_dir / 'config.yaml'))}, or start another with "
        "--run-dir"
    )
