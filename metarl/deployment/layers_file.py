"""Layers in the files of saved policies, and checks of what stands there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from metarl.acting.policy import Layer


def put_layers(prefix: str, layers: tuple[Layer, ...], tensors: dict[str, np.ndarray]) -> None:
    """Adds layers to the tensors of a saved policy, named PREFIX0, PREFIX1, ..."""
    for i, one in enumerate(layers):
        tensors |= {f"{prefix}{i}.weight": one.weight, f"{prefix}{i}.bias": one.bias}


def layers(
    prefix: str, tensors: dict[str, np.ndarray], inputs: int, outputs: int | None
) -> tuple[Layer, ...]:
    """Returns the layers whose names begin with `prefix`, from `inputs` numbers to `outputs`, any
    number where it is None; raises a ValueError where they do not fit."""
    number = count(prefix, tensors)
    found, width = tuple(layer(f"{prefix}{i}", tensors) for i in range(number)), inputs
    for one in found:
        demand(one.weight.shape[1] == width)
        width = one.weight.shape[2]
    demand(outputs is None or (number > 0 and width == outputs))
    return found


def count(prefix: str, tensors: dict[str, np.ndarray]) -> int:
    """Returns the number of layers whose names begin so."""
    return sum(name.startswith(prefix) and name.endswith(".weight") for name in tensors)


def layer(name: str, tensors: dict[str, np.ndarray]) -> Layer:
    """Returns a layer that all tasks share."""
    weight, bias = float32(tensors[f"{name}.weight"], 3), float32(tensors[f"{name}.bias"], 2)
    demand(len(weight) == 1 and bias.shape == (1, weight.shape[2]))
    return Layer(weight, bias)


def float32(x: np.ndarray, dimensions: int) -> np.ndarray:
    """Returns a float32 array with so many dimensions; raises a ValueError for another."""
    demand(x.dtype == np.float32 and x.ndim == dimensions)
    return x


def finite(x: Any) -> float:
    """Returns a finite number as a float; raises a ValueError for another."""
    demand(math.isfinite(x))
    return float(x)


def demand(fits: bool) -> None:
    """Raises a ValueError where the parts of a saved policy do not fit together."""
    if not fits:
        raise ValueError("its parts do not fit together")
