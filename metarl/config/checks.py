"""What a config must satisfy beyond its types: ranges, and agreement with the run it continues."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from metarl.config.files import flatten, keys
from metarl.config.ranges import Range
from metarl.config.settings import Config
from metarl.config.settings_few_shot import FewShotConfig
from metarl.errors import UserError

FREE_TO_CHANGE = (
    "iterations",
    "device",
    "workers",
    "worker_timeout",
    "checkpoint_every",
    "run_dir",
    "evaluation.",
)
"""Keys that may differ when a run goes on. None changes what an iteration computes; another
device, like another machine, may round it differently."""


def check_ranges(record: object, source: str = "") -> None:
    """Raises a UserError for the first number that is outside the range at its field."""
    for key, annotation, value in flatten(record):
        for item, allowed in _ranged(value, annotation):
            if item not in allowed:
                place = f"{source}: {key}" if source else key
                raise UserError(f"{place} is {item}; it must be {allowed}")


def _ranged(value: Any, annotation: Any) -> Iterator[tuple[Any, Range]]:
    """Every number in `value` with the range that its annotation states."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated and not isinstance(value, str):
        yield from ((value, extra) for extra in arguments[1:] if isinstance(extra, Range))
    elif origin is Union:
        for alternative in arguments:
            yield from _ranged(value, alternative)
    elif origin is tuple:
        for item in value:
            yield from _ranged(item, arguments[0])


def differences(
    config: Config | FewShotConfig, stored: Config | FewShotConfig
) -> dict[str, tuple[Any, Any]]:
    """Keys that may not differ in a continued run, and do: key -> (asked for, stored)."""
    asked, kept = keys(config), keys(stored)
    return {
        key: (asked.get(key), kept.get(key))
        for key in {**asked, **kept}
        if asked.get(key) != kept.get(key) and not key.startswith(FREE_TO_CHANGE)
    }


def check_continues(
    config: Config | FewShotConfig, stored: Config | FewShotConfig, run_dir: Path
) -> None:
    """Raises a UserError that lists the keys in which `config` is not the run in `run_dir`."""
    changed = differences(config, stored)
    if not changed:
        return
    shown = [f"{key} {kept} (asked for: {asked})" for key, (asked, kept) in changed.items()]
    more = f" and {len(shown) - 4} more" if len(shown) > 4 else ""
    raise UserError(
        f"{run_dir} holds a run with other settings: {', '.join(shown[:4])}{more}\n"
        f"continue it with --config {run_dir / 'config.yaml'}, or start another with --run-dir"
    )
