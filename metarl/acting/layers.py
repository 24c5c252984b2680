"""A layer of K tasks in numpy, at the units of a worker."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metarl.acting.units import Units


class Layer(NamedTuple):
    """x W + b, with parameters of K tasks, or of all (K = 1)."""

    weight: np.ndarray  # [K, in, out]
    bias: np.ndarray  # [K, out]

    def of(self, tasks: slice) -> Layer:
        return self if len(self.weight) == 1 else Layer(self.weight[tasks], self.bias[tasks])


class ReadyLayer:
    """A layer at some units; numpy multiplies the matrices of one unit at a time."""

    def __init__(self, layer: Layer, units: Units, places: int = 1):
        """`places` are rows of x for each episode."""
        self._weight, self._blocks = layer.weight, units.blocks()
        self._shared = len(layer.weight) == 1
        self._bias = of_units(layer.bias, units)
        self._out = np.empty((len(units), units.size * places, layer.weight.shape[2]), np.float32)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Returns [U, e places, out], valid until the next call, at x [U, e places, in]."""
        out = self._out
        if self._shared:
            np.matmul(x, self._weight, out=out)
        else:
            for units, tasks, of_task in self._blocks:
                shape = (-1, of_task, x.shape[1])
                np.matmul(
                    x[units].reshape(*shape, x.shape[2]),
                    self._weight[tasks, None],
                    out=out[units].reshape(*shape, out.shape[2]),
                )
        out += self._bias
        return out


def of_units(values: np.ndarray, units: Units) -> np.ndarray:
    """Returns values [K or 1, n] of tasks as those of units, [U or 1, 1, n]."""
    return values[:, None] if len(values) == 1 else values[units.task_of_each()][:, None]


def activate(x: np.ndarray, activation: str) -> np.ndarray:
    """Returns the activations, written over `x`."""
    return np.maximum(x, 0.0, out=x) if activation == "relu" else np.tanh(x, out=x)
