"""Convolutions before a policy's layers in the files of saved policies."""

from __future__ import annotations

from typing import Any

import numpy as np

from metarl.acting.torso import Convolution, Torso
from metarl.deployment.layers_file import demand, layer, put_layers


def put(torso: Torso, document: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Adds the filters, with their sides and strides."""
    put_layers("conv", tuple(x.layer for x in torso.convolutions), tensors)
    document["filters"] = [[x.side, x.stride] for x in torso.convolutions]


def read(
    document: dict[str, Any],
    tensors: dict[str, np.ndarray],
    image: tuple[int, int, int] | None,
) -> Torso | None:
    """Returns the convolutions, each of whose filters fits into what it reads; None for none."""
    if "filters" not in document:
        return None
    if image is None:
        raise ValueError("filters without an image")
    channels, *sides = image
    found: list[Convolution] = []
    for i, (side, stride) in enumerate(document["filters"]):
        one = Convolution(layer(f"conv{i}", tensors), int(side), int(stride))
        demand(0 < one.side <= min(sides) and 0 < one.stride <= one.side)
        demand(one.layer.weight.shape[1] == channels * one.side**2)
        channels, sides = one.layer.weight.shape[2], list(one.places(*sides))
        found.append(one)
    demand(len(found) > 0)
    return Torso(image, tuple(found))
