"""Paths of attributes that task parameters set: `gravity`, `model.body_mass[2]`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from metarl.errors import UserError, nearest

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\[[^\]]*\])?")
_INDEX = re.compile(r"\s*(:|-?\d+)\s*")


class AttributePath(NamedTuple):
    """A chain of attributes of an unwrapped environment, and an index into the last one."""

    name: str
    attributes: tuple[str, ...]
    index: int | slice | tuple[int | slice, ...] | None

    def get(self, env: Any) -> Any:
        """Returns the current value; an array is copied.

        Raises:
            UserError: if the environment has no such attribute or index.
        """
        owner = _follow(env, self.attributes)
        try:
            value = owner if self.index is None else owner[self.index]
        except (IndexError, TypeError, KeyError) as error:
            raise UserError(f"{type(env).__name__} has no {self.name}: {error}") from None
        return value.copy() if isinstance(value, np.ndarray) else value

    def set(self, env: Any, value: Any) -> None:
        *parents, last = self.attributes
        if self.index is None:
            setattr(_follow(env, parents), last, value)
        else:
            _follow(env, self.attributes)[self.index] = value


def _follow(env: Any, attributes: Sequence[str]) -> Any:
    """Returns the value of a chain of attributes."""
    owner = env
    for place, attribute in enumerate(attributes):
        if not hasattr(owner, attribute):
            whole = ".".join((type(env).__name__, *attributes[:place]))
            known = [name for name in dir(owner) if not name.startswith("_")]
            near = nearest(attribute, known, count=2)
            hint = near if near.startswith("; did") else "; name one of its own attributes"
            raise UserError(f"{whole} has no attribute {attribute!r}{hint}")
        owner = getattr(owner, attribute)
    return owner


def attribute_path(name: str) -> AttributePath:
    """Parses `a`, `a.b.c`, `a.b[2]`, `a.b[2, 0]` or `a.b[:, 0]`.

    Raises:
        UserError: for anything else.
    """
    refusal = UserError(
        f"{name!r} is no path of an attribute; write gravity, model.opt.timestep, "
        "model.body_mass[2] or model.geom_friction[:, 0]"
    )
    if not _PATH.fullmatch(name):
        raise refusal
    dotted, bracket, inside = name.partition("[")
    if not bracket:
        return AttributePath(name, tuple(dotted.split(".")), None)
    parts = [_INDEX.fullmatch(part) for part in inside[:-1].split(",")]
    if not all(parts):
        raise refusal
    numbers = [part[1] for part in parts if part]
    index = tuple(slice(None) if number == ":" else int(number) for number in numbers)
    plain_index = index[0] if len(index) == 1 else index  # a list does not take a tuple
    return AttributePath(name, tuple(dotted.split(".")), plain_index)
