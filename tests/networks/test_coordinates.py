"""Parameters as a row of coordinates, and back."""

from __future__ import annotations

import torch

from metarl.networks.coordinates import Coordinates

SHAPES = {"layer0.weight": (3, 2), "layer0.bias": (3,), "log_std": (1,)}
COORDINATES = Coordinates(SHAPES)


def test_a_row_is_the_parameters_one_after_another():
    """Each task has its own row, whatever else there is."""
    weight = torch.arange(6.0).view(3, 2)
    params = {
        "layer0.weight": torch.stack([weight, 10.0 + weight]),
        "layer0.bias": -torch.ones(2, 3),
        "log_std": torch.tensor([[7.0], [8.0]]),
    }
    assert sum(COORDINATES.counts) == 10
    assert COORDINATES.row({**params, "more": params["log_std"]}).tolist() == [
        [0, 1, 2, 3, 4, 5, -1, -1, -1, 7],
        [10, 11, 12, 13, 14, 15, -1, -1, -1, 8],
    ]


def test_there_and_back():
    row = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    params = COORDINATES.params(row)
    assert {name: tuple(x.shape[1:]) for name, x in params.items()} == SHAPES
    assert torch.equal(COORDINATES.row(params), row)


def test_a_value_of_each_name_is_at_every_coordinate_of_it():
    found = COORDINATES.each(torch.tensor([0.5, 2.0, 3.0]))
    assert found.tolist() == [0.5] * 6 + [2.0] * 3 + [3.0]
