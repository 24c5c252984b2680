"""Values of task parameters: the types that an environment wants, and whether two are equal."""

from __future__ import annotations

import array
import copy
from collections import deque
from collections.abc import Mapping, MutableMapping
from enum import Enum
from typing import Any

import numpy as np

SEQUENCES = (list, tuple, deque, array.array)


def is_many(value: Any) -> bool:
    """Returns whether a value is an array or a sequence, and not a single number."""
    return isinstance(value, SEQUENCES) or (isinstance(value, np.ndarray) and value.ndim > 0)


def of_kind(value: Any, own: Any) -> Any:
    """Returns `value` as the type of the environment's own value, if nothing of it is lost.

    A list or a plain number stands for an array, a tuple, a deque, a scalar of numpy or a member
    of an enumeration. Other types stay as they are. A dictionary replaces the keys that it has;
    the environment's own others stay.
    """
    if isinstance(own, np.ndarray) and not isinstance(value, Mapping):
        found = np.asarray(value)
        cast = found.astype(own.dtype) if found.dtype.kind in "biuf" else found
        return cast if alike(cast, found) else found
    if isinstance(own, MutableMapping) and isinstance(value, Mapping):
        merged = copy.copy(own)
        merged.update({key: of_kind(item, own.get(key)) for key, item in value.items()})
        return merged
    if isinstance(own, SEQUENCES) and isinstance(value, list):
        last = own[-1] if len(own) else None
        items = [of_kind(x, own[i] if i < len(own) else last) for i, x in enumerate(value)]
        return _sequence(own, items)
    if isinstance(own, Enum) and not isinstance(value, Enum):
        return type(own)(value)
    if isinstance(own, np.number) and type(value) in (int, float):
        cast = own.dtype.type(value)
        return cast if alike(cast, value) else value
    return value


def _sequence(own: Any, items: list[Any]) -> Any:
    if hasattr(own, "_fields"):
        return type(own)(*items)
    return array.array(own.typecode, items) if isinstance(own, array.array) else type(own)(items)


def times(factor: Any, own: Any) -> Any:
    """Returns the environment's own number, or numbers, times a factor, or a factor for each.

    Raises:
        ValueError: for factors of another shape than the environment's numbers.
    """
    if is_many(factor):
        if np.shape(own) != np.shape(factor):
            raise ValueError(f"{np.shape(factor)} factors for values of shape {np.shape(own)}")
        if isinstance(own, SEQUENCES):
            pairs = zip(factor, own, strict=True)
            return _sequence(own, [times(one, item) for one, item in pairs])
        return own * np.asarray(factor)
    if isinstance(own, SEQUENCES):
        return _sequence(own, [times(factor, item) for item in own])
    return own * factor


def alike(one: Any, other: Any) -> bool:
    """Returns whether two values are equal: whole numbers exactly, others but for float32."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, SEQUENCES) and isinstance(other, SEQUENCES):
        return len(one) == len(other) and all(map(alike, one, other))
    try:
        a, b = np.asarray(one), np.asarray(other)
    except ValueError:  # of items of different shapes
        return bool(one == other)
    if a.dtype.kind not in "biuf" or b.dtype.kind not in "biuf":
        return bool(np.all(a == b))
    if {a.dtype.kind, b.dtype.kind} <= set("biu"):
        return bool(np.all(a == b))
    return bool(np.allclose(a, b, rtol=1e-5, atol=0.0, equal_nan=True))
