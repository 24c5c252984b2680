"""Checks and converts labelled arrays for few-shot episodes; says where data are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from metarl.errors import UserError
from metarl.text import shown


def checked_inputs(name: str, given: Any) -> np.ndarray:
    """Returns the inputs [M, *shape]; uint8 stays, other types become float32.

    Raises:
        UserError: for anything but an array of finite numbers; names the first bad example.
    """
    _check_shapes(name, given)
    inputs = _array(name, "inputs", given)
    if inputs.dtype.kind not in "biuf":
        raise UserError(f"{name}: inputs are {inputs.dtype}; give real numbers")
    if inputs.ndim < 2 or not inputs.size:
        raise UserError(
            f"{name}: inputs have shape {inputs.shape}; give [M, ...]: M examples on the first "
            "axis, each with at least one number"
        )
    if inputs.dtype == np.uint8:
        return inputs
    with np.errstate(over="ignore"):  # numbers too large become infinite and are refused below
        inputs = inputs.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1))
    if len(bad):
        raise UserError(
            f"{name}: inputs[{bad[0]}] has a NaN or infinite number, one of {len(bad)} such "
            "examples; leave them out, or fill in the missing numbers"
        )
    return inputs


def _check_shapes(name: str, given: Any) -> None:
    """Raises a UserError for examples of unequal shapes, such as images of mixed sizes."""
    if isinstance(given, np.ndarray) and given.dtype != object:
        return
    try:
        shapes = [np.shape(example) for example in given]
    except (TypeError, ValueError):
        return  # which is refused as what it is
    other = next((place for place, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is not None:
        raise UserError(
            f"{name}: inputs[{other}] has the shape {shapes[other]}, and inputs[0] has {shapes[0]};"
            " crop or resize all examples to one shape"
        )


def checked_labels(name: str, given: Any) -> np.ndarray:
    """Returns the labels, [M].

    Raises:
        UserError: for anything but a list of integers.
    """
    labels = _array(name, "labels", given)
    if labels.ndim != 1:
        raise UserError(f"{name}: labels have shape {labels.shape}; give one for each example: [M]")
    if labels.dtype.kind not in "iu":
        first = shown(labels[:1].tolist())
        raise UserError(
            f"{name}: labels are {labels.dtype}, such as {first}, not integers; number the "
            "classes: np.unique(labels, return_inverse=True)[1]"
        )
    return labels


def missing(kind: str, path: Path, expected: str) -> UserError:
    """Returns the error for a file or folder of data that is not there."""
    here = "" if path.is_absolute() else f"; relative paths begin in {Path.cwd()}"
    return UserError(
        f"there is no {kind} {path}; {expected}\n"
        f"--env.path PATH says where the data of a run are now{here}"
    )


def plain_classes(given: Any) -> list[Any]:
    """Returns the classes in an array, a list, a range or a set as a flat list."""
    return np.ravel(given if isinstance(given, np.ndarray) else list(given)).tolist()


def _array(name: str, what: str, given: Any) -> np.ndarray:
    try:
        return np.asarray(given)
    except ValueError as error:  # lists within lists of unequal length
        raise UserError(f"{name}: {what} cannot become an array: {error}") from None
