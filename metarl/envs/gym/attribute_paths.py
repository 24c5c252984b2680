"""Paths of attributes that task parameters set: `gravity`, `model.body_mass[2]`, `config.lanes`."""

from __future__ import annotations

import array
import copy
import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from metarl.errors import UserError, nearest
from metarl.sampling.rows import RowError

_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(\[[^\]]*\])?")
CONTAINERS = (np.ndarray, list, tuple, dict, set, deque, array.array, bytearray)
MOST_OBJECTS = 10_000
"""Objects of an environment that are looked through for others that hold a shared one."""
_INDEX = re.compile(r"\s*(:|-?\d+)\s*")


class AttributePath(NamedTuple):
    """A chain of attributes or keys of an unwrapped environment, and an index into the last."""

    name: str
    attributes: tuple[str, ...]
    index: int | slice | tuple[int | slice, ...] | None

    def get(self, env: Any) -> Any:
        """Returns the current value; a container is copied.

        Raises:
            UserError: if the environment has no such attribute, key or index.
        """
        owner = _follow(env, self.attributes)
        try:
            value = owner if self.index is None else owner[self.index]
        except (IndexError, TypeError, KeyError) as error:
            raise UserError(f"{type(env).__name__} has no {self.name}: {error}") from None
        return _own(value)

    def set(self, env: Any, value: Any) -> None:
        """Sets a copy of `value`; an item of a tuple by another tuple."""
        *parents, last = self.attributes
        owner, value = _follow(env, parents), _own(value)
        if self.index is None:
            _set(owner, last, value)
        elif isinstance(old := _get(owner, last), tuple):
            items = list(old)
            items[self.index] = value  # pyright: ignore[reportArgumentType, reportCallIssue]
            _set(owner, last, type(old)(*items) if hasattr(old, "_fields") else type(old)(items))
        else:
            old[self.index] = value

    def exists(self, env: Any) -> bool:
        try:
            self.get(env)
        except Exception:  # a property may raise anything before the first reset
            return False
        return True

    def shared(self, env: Any, other: Any) -> frozenset[tuple[str, ...]]:
        """Returns the parts of the path whose values two environments share.

        These are objects that `set` writes into, such as a list of the class or a dictionary that
        is an argument's default. The fields of a MuJoCo model are not among them, nor are modules
        of simulators: they are an instance's own.
        """
        whole = self.attributes if self.index is not None else self.attributes[:-1]
        parts = [whole[:length] for length in range(1, len(whole) + 1)]
        return frozenset(
            part
            for part in parts
            if _same_memory(found := _follow(env, part), _follow(other, part))
            and not isinstance(found, tuple)
            and not _is_model(found)
        )

    def separate(
        self, env: Any, shared: frozenset[tuple[str, ...]], other: Any | None = None
    ) -> None:
        """Gives an environment a copy of its own of everything on the path that others share.

        Raises:
            RowError: for an object that cannot be copied or replaced, such as one that is held by
                something else that the environment shares with `other`.
        """
        theirs = {id(x) for x in _objects(other)} - {id(other)} if other is not None else set()
        for length in range(1, len(self.attributes) + 1):
            part = self.attributes[:length]
            if part not in shared:
                continue
            owner, old = _follow(env, part[:-1]), _follow(env, part)
            try:
                own = _copied(old)
                _set(owner, part[-1], own)
                _replace(env, old, own, theirs)
            except Exception as error:
                raise RowError(
                    self.name,
                    f"{'.'.join(part)} is shared by all environments of a process, and cannot be "
                    f"copied for each: {error}; set {self.name} by a function of yours, "
                    "gym_tasks(..., apply=function)",
                ) from error


def _own(value: Any) -> Any:
    """Returns a copy of a container, and anything else as it is."""
    if not isinstance(value, CONTAINERS):
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # of something inside
        return copy.copy(value)


def _same_memory(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.shares_memory(one, other)
    return one is other


def _objects(env: Any) -> Iterator[Any]:
    """Yields an environment and the objects, dictionaries and lists that it holds."""
    waiting, met = [env], {id(env)}
    while waiting and len(met) < MOST_OBJECTS:
        owner = waiting.pop()
        yield owner
        for value in _inside(owner):
            kept = isinstance(value, type | ModuleType) or callable(value)
            if id(value) not in met and not kept:
                met.add(id(value))
                waiting.append(value)


def _inside(owner: Any) -> list[Any]:
    if isinstance(owner, list):
        return owner
    return [*(owner if isinstance(owner, dict) else getattr(owner, "__dict__", {})).values()]


def _replace(env: Any, old: Any, own: Any, theirs: set[int]) -> None:
    """Lets everything in an environment that holds `old` hold `own`: engines, lists, aliases."""
    holders = [x for x in _objects(env) if x is not old and any(y is old for y in _inside(x))]
    if any(id(holder) in theirs for holder in holders):
        raise ValueError("another shared object holds it")
    for holder in holders:
        items = holder if isinstance(holder, dict | list) else vars(holder)
        for key, value in list(enumerate(items) if isinstance(items, list) else items.items()):
            if value is old:
                items[key] = own


def _get(owner: Any, name: str) -> Any:
    return owner[name] if isinstance(owner, Mapping) and name in owner else getattr(owner, name)


def _has(owner: Any, name: str) -> bool:
    return (isinstance(owner, Mapping) and name in owner) or hasattr(owner, name)


def _set(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, MutableMapping) and name in owner:
        owner[name] = value
    else:
        setattr(owner, name, value)


def _follow(env: Any, names: Sequence[str]) -> Any:
    """Returns the value of a chain of attributes and keys."""
    owner = env
    for place, name in enumerate(names):
        if not _has(owner, name):
            whole = ".".join((type(env).__name__, *names[:place]))
            own = owner if isinstance(owner, Mapping) else dir(owner)
            known = [str(one) for one in own if not str(one).startswith("_")]
            near = nearest(name, known, count=2)
            hint = near if near.startswith("; did") else "; name one of its own attributes"
            kind = "key" if isinstance(owner, Mapping) else "attribute"
            raise UserError(f"{whole} has no {kind} {name!r}{hint}")
        owner = _get(owner, name)
    return owner


def _is_model(value: Any) -> bool:
    """Whether it is a MuJoCo model, or a simulation of one."""
    mujoco = sys.modules.get("mujoco")
    return mujoco is not None and isinstance(value, mujoco.MjModel | mujoco.MjData)


def _copied(value: Any) -> Any:
    """Returns a shallow copy, also of a class or module that holds settings."""
    if isinstance(value, type):
        return type(value)(value.__name__, (value,), {"__module__": value.__module__})
    if isinstance(value, ModuleType):
        own = ModuleType(value.__name__, value.__doc__)
        own.__dict__.update(value.__dict__)
        return own
    return copy.copy(value)


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
