"""The plain form of a task's values: what JSON stores, and what tasks are compared by.

Environments themselves get values of the types that the user gave, such as tuples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np

from metarl.errors import UserError


def plain(value: Any, place: str = "the task") -> Any:
    """Returns `value` with arrays and tuples as lists, numpy's numbers as Python's, and members
    of an enumeration as their values, or as their names where a value is no plain data.

    Raises:
        UserError: for a value that JSON cannot store; it names the place.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Enum):
        try:
            return plain(value.value, place)
        except UserError:
            return value.name
    if isinstance(value, Mapping):
        return {str(key): plain(item, place) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, place) for item in value]
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise UserError(
        f"{place}: a value cannot be {value!r}; give finite numbers, strings, lists or dictionaries"
    )
