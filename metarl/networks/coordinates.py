"""Parameters as one row of coordinates, which rules that are shared over them read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metarl.types import Params


class Coordinates:
    """Of parameters by name, of these `shapes` or [K, ...], as [K, P] and back."""

    def __init__(self, shapes: Mapping[str, Sequence[int]]):
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.counts = [int(torch.Size(shape).numel()) for shape in self.shapes.values()]

    @property
    def number(self) -> int:
        """P."""
        return sum(self.counts)

    def row(self, params: Params, num_tasks: int) -> Tensor:
        """[K, P]."""
        parts = [
            params[name].expand(num_tasks, *shape).flatten(1) for name, shape in self.shapes.items()
        ]
        return torch.cat(parts, 1)

    def params(self, row: Tensor) -> Params:
        """The inverse, of [K, P]."""
        parts = row.split(self.counts, 1)
        return {
            name: part.unflatten(1, shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def each(self, values: Tensor) -> Tensor:
        """One value for each name, [names], at every coordinate of it: [P]."""
        counts = torch.tensor(self.counts, device=values.device)
        return values.repeat_interleave(counts, output_size=self.number)
