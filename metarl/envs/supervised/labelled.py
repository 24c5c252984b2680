"""Labelled arrays as episodes take them, or what is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from metarl.errors import UserError


def checked_inputs(name: str, given: Any) -> np.ndarray:
    """Inputs [M, *shape], uint8 as they are and float32 of all else.

    Raises:
        UserError: for what is no array of finite numbers, naming the first example that is not.
    """
    inputs = _array(name, "inputs", given)
    if inputs.dtype.kind not in "biuf":
        raise UserError(f"{name}: inputs are {inputs.dtype}; give real numbers")
    if inputs.ndim < 2 or not inputs.size:
        raise UserError(
            f"{name}: inputs have shape {inputs.shape}; the first axis is the examples', and each "
            "needs at least one number: [M, ...]"
        )
    if inputs.dtype == np.uint8:
        return inputs
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
        inputs = inputs.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1))
    if len(bad):
        raise UserError(
            f"{name}: inputs[{bad[0]}] has a NaN or infinite number, one of {len(bad)} such "
            "examples; leave them out, or fill in what is missing"
        )
    return inputs


def checked_labels(name: str, given: Any) -> np.ndarray:
    """Labels [M].

    Raises:
        UserError: for what is no list of integers.
    """
    labels = _array(name, "labels", given)
    if labels.ndim != 1:
        raise UserError(f"{name}: labels have shape {labels.shape}; give one for each example: [M]")
    if labels.dtype.kind not in "iu":
        first = labels[:1].tolist()
        raise UserError(
            f"{name}: labels are no integers but {labels.dtype}, such as {first}; number the "
            "classes: np.unique(labels, return_inverse=True)[1]"
        )
    return labels


def plain_classes(given: Any) -> list[Any]:
    """Of an array, a list, a range, a set."""
    return np.ravel(given if isinstance(given, np.ndarray) else list(given)).tolist()


def _array(name: str, what: str, given: Any) -> np.ndarray:
    try:
        return np.asarray(given)
    except ValueError as error:  # lists within lists of unequal length
        raise UserError(f"{name}: {what} make no array: {error}") from None
