"""The settings that a sweep varies, from `--param KEY=RANGE`. It imports no Optuna."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from metarl.agents import catalogue as agents
from metarl.config import yaml_text
from metarl.config.checks import FREE_TO_CHANGE, check_ranges
from metarl.config.files import flatten, near_keys, overlay
from metarl.config.settings import AnyConfig, OwnAgentConfig
from metarl.errors import UserError
from metarl.text import shown

GRID = 5
"""Values of a range on a grid."""
FIXED = ("seed", "env.", "agent.name", *FREE_TO_CHANGE)
"""Keys that no sweep varies: they are of the machine, or change the tasks or the comparison."""
EXAMPLE = "as in --param agent.inner.lr=log:0.01:1"


@dataclass(frozen=True)
class Parameter:
    """A setting with the values that are tried."""

    key: str
    kind: Literal["float", "int", "choice"]
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def __str__(self) -> str:
        if self.kind == "choice":
            inside = ",".join(json.dumps(_plain(choice)) for choice in self.choices)
            return f"{self.key}=choice:{inside}"
        return f"{self.key}={'log:' if self.log else ''}{self.low:g}:{self.high:g}"

    @property
    def labels(self) -> list[str]:
        """Names of the choices in a study."""
        return [json.dumps(_plain(choice)) for choice in self.choices]

    def value(self, stored: Any) -> Any:
        """Returns the value of the setting that a study stores.

        Raises:
            UserError: for one that the parameter does not have.
        """
        if self.kind == "choice":
            if stored not in self.labels:
                raise UserError(f"{self.key} is {shown(stored)}, none of {', '.join(self.labels)}")
            return self.choices[self.labels.index(stored)]
        if not isinstance(stored, int | float) or not self.low <= stored <= self.high:
            raise UserError(f"{self.key} is {shown(stored)}, outside of {self}")
        return int(stored) if self.kind == "int" else float(stored)

    def grid(self) -> list[Any]:
        """Returns the values of a grid, as a study stores them."""
        if self.kind == "choice":
            return list(self.labels)
        if self.kind == "int" and self.high - self.low < GRID:
            return list(range(int(self.low), int(self.high) + 1))
        import numpy as np  # a command line is read without it

        points = (np.geomspace if self.log else np.linspace)(self.low, self.high, GRID).tolist()
        points[0], points[-1] = self.low, self.high  # rounding must not leave the range
        return sorted({round(x) for x in points}) if self.kind == "int" else points


def parameters(texts: Sequence[str], config: AnyConfig) -> tuple[Parameter, ...]:
    """Returns the parameters that a command line asks for, each checked against the config.

    Raises:
        UserError: for an unknown key, with the nearest, and a range that the setting cannot have.
    """
    if not texts:
        raise UserError(f"no --param is given; name what to vary, {EXAMPLE}")
    found = tuple(_parameter(text, config) for text in texts)
    names = [parameter.key for parameter in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"--param {twice} is given twice; give it once")
    for parameter in found:
        ends = parameter.labels if parameter.choices else [parameter.low, parameter.high]
        for end in ends:
            changed(config, {parameter.key: parameter.value(end)})
    return found


def changed(config: AnyConfig, values: Mapping[str, Any]) -> AnyConfig:
    """Returns the config with other values of some dotted keys, after a check of their ranges.

    Raises:
        UserError: for a value out of range, and settings of an agent that contradict each other.
    """
    nested: dict[str, Any] = {}
    for key, value in values.items():
        inside, (*sections, last) = nested, key.split(".")
        for section in sections:
            inside = inside.setdefault(section, {})
        inside[last] = _plain(value)
    found = overlay(config, nested, "--param")
    check_ranges(found, "--param")
    if not isinstance(found.agent, OwnAgentConfig):
        try:
            agents.check(found.agent)
        except UserError as error:
            told = ", ".join(f"{key}={shown(value)}" for key, value in values.items())
            raise UserError(f"--param {told}: {error}") from None
    return found


def settings(config: AnyConfig) -> dict[str, Any]:
    """Returns the settings that make trials comparable, by dotted key, as JSON has them."""
    return {
        key: _plain(value)
        for key, _, value in flatten(config)
        if key.startswith(("iterations", "evaluation.")) or not key.startswith(FREE_TO_CHANGE)
    }


def _parameter(text: str, config: AnyConfig) -> Parameter:
    key, equals, allowed = text.partition("=")
    key = key.replace("-", "_")
    if not equals or not key or not allowed:
        raise UserError(f"--param {shown(text)} is no KEY=RANGE; give one, {EXAMPLE}")
    known = {name: annotation for name, annotation, _ in flatten(config)}
    free = [name for name in known if not name.startswith(FIXED)]
    if key not in known:
        near = " or ".join(near_keys(key, free))
        instead = f"did you mean {near}?" if near else "`metarl train --help` lists the keys"
        raise UserError(
            f"--param {shown(key)}: {config.agent.name} on {config.env.name} has no such setting\n"
            f"{instead}"
        )
    if key not in free:
        raise UserError(
            f"--param {key}: a sweep cannot vary it, as trials would not be comparable or equal\n"
            f"vary a setting of the agent or of sampling, {EXAMPLE}"
        )
    place = f"--param {key}"
    if allowed.startswith("choice:"):
        return Parameter(key, "choice", choices=_choices(allowed[len("choice:") :], place))
    return _range(key, allowed, known[key], place)


def _range(key: str, allowed: str, annotation: Any, place: str) -> Parameter:
    words = allowed.split(":")
    log = words[0] == "log"
    try:
        low, high = map(float, words[1:] if log else words)
    except ValueError:
        raise UserError(
            f"{place} is {shown(allowed)}; give LOW:HIGH, log:LOW:HIGH or choice:A,B,..."
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(
            f"{place} is {shown(allowed)}; give two finite numbers, the lower one first"
        )
    if log and low <= 0:
        raise UserError(f"{place} is {shown(allowed)}; a logarithmic range begins above 0")
    kind = number_of(annotation)
    if kind is None:
        raise UserError(f"{place} is {shown(allowed)}, and it is no number; give choice:A,B,...")
    if kind == "int" and (low != int(low) or high != int(high)):
        raise UserError(f"{place} is {shown(allowed)}, and it is a whole number; give whole ends")
    return Parameter(key, kind, low, high, log)


def _choices(text: str, place: str) -> tuple[Any, ...]:
    found = yaml_text.parsed(f"[{text}]", place)
    if not isinstance(found, list) or len(found) < 2:
        raise UserError(
            f"{place} is choice:{text}; give two values or more, as in choice:relu,tanh or "
            "choice:[64,64],[100,100]"
        )
    if len({json.dumps(_plain(x)) for x in found}) < len(found):
        raise UserError(f"{place} is choice:{text}; give each value once")
    return tuple(tuple(x) if isinstance(x, list) else x for x in found)


def number_of(annotation: Any) -> Literal["float", "int"] | None:
    """Returns the kind of number that a setting is; None for one that is none."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return number_of(get_args(annotation)[0])
    if origin in (Union, UnionType):
        kinds = {number_of(one) for one in get_args(annotation)}
        return "float" if "float" in kinds else "int" if "int" in kinds else None
    return "float" if annotation is float else "int" if annotation is int else None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
