"""Parameters as one row of coordinates, the input of learned rules shared by all coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metarl.types import Params


class Coordinates:
    """Converts named parameters of these `shapes`, or [K, ...], to rows [K, P] and back."""

    def __init__(self, shapes: Mapping[str, Sequence[int]]):
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.counts = [int(torch.Size(shape).numel()) for shape in self.shapes.values()]

    def row(self, params: Params) -> Tensor:
        """Returns parameters [K, ...] as rows, [K, P]."""
        return torch.cat([params[name].flatten(1) for name in self.shapes], 1)

    def params(self, row: Tensor) -> Params:
        """Returns rows [K, P] as named parameters, [K, ...]."""
        parts = row.split(self.counts, 1)
        return {
            name: part.unflatten(1, shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def each(self, values: Tensor) -> Tensor:
        """Repeats one value for each name, [names], at each of its coordinates, [P]."""
        pairs = zip(values.unbind(), self.counts, strict=True)
        return torch.cat([value.expand(count) for value, count in pairs])
