"""Convolutions of an image in numpy, as `metarl/networks/torso.py` has them in torch."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from metarl.acting.layers import Layer, ReadyLayer, activate
from metarl.acting.units import Units


class Convolution(NamedTuple):
    """Filters of one convolution without padding; each reads a patch in the order channels,
    height, width."""

    layer: Layer
    side: int
    stride: int

    def places(self, height: int, width: int) -> tuple[int, int]:
        """Returns rows and columns of places in an image."""
        return (height - self.side) // self.stride + 1, (width - self.side) // self.stride + 1


class Torso(NamedTuple):
    """Parameters of the convolutions, shared by all tasks or of each."""

    image: tuple[int, int, int]
    """Channels, height and width of the image that observations begin with."""
    convolutions: tuple[Convolution, ...]

    def of(self, tasks: slice) -> Torso:
        own = tuple(x._replace(layer=x.layer.of(tasks)) for x in self.convolutions)
        return self._replace(convolutions=own)

    @property
    def features(self) -> int:
        """Numbers that the last convolution gives."""
        height, width = self.image[1:]
        for each in self.convolutions:
            height, width = each.places(height, width)
        return height * width * self.convolutions[-1].layer.weight.shape[2]

    def width(self, inputs: int) -> int:
        """Returns how many numbers it makes of vectors of `inputs` numbers."""
        return inputs - prod(self.image) + self.features


class ReadyTorso:
    """A torso at some units; it reads the current observation alone."""

    def __init__(self, torso: Torso, units: Units, activation: str):
        self._image, self._activation = torso.image, activation
        self._grid = len(units), units.size
        self._steps: list[tuple[Convolution, ReadyLayer, tuple[int, int]]] = []
        height, width = torso.image[1:]
        for each in torso.convolutions:
            height, width = each.places(height, width)
            layer = ReadyLayer(each.layer, units, height * width)
            self._steps.append((each, layer, (height, width)))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Returns features of the image and the other numbers, [U, e, width], at x [U, e, n]."""
        pixels = prod(self._image)
        h = x[..., :pixels].reshape(*self._grid, *self._image).transpose(0, 1, 3, 4, 2)
        for each, layer, places in self._steps:
            patches = sliding_window_view(h, (each.side, each.side), (2, 3))
            patches = patches[:, :, :: each.stride, :: each.stride]
            rows = patches.reshape(len(h), -1, patches.shape[4] * each.side**2)
            h = activate(layer(rows), self._activation).reshape(*self._grid, *places, -1)
        return np.concatenate([h.reshape(*self._grid, -1), x[..., pixels:]], -1)
