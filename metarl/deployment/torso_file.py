"""Convolutions before a policy's layers in the files of saved policies."""

from __future__ import annotations

from typing import Any

import numpy as np

from metarl.acting.torso import Convolution, Torso
from metarl.deployment.layers_file import demand, layer, put_layers


def put(
    torso: Torso | None, document: dict[str, Any], tensors: dict[str, np.ndarray], prefix: str = ""
) -> None:
    """Adds the filters of a torso, if there is one, with their sides and strides; their names begin
    with `prefix`."""
    if torso is None:
        return
    put_layers(f"{prefix}conv", tuple(x.layer for x in torso.convolutions), tensors)
    document[f"{prefix}filters"] = [[x.side, x.stride] for x in torso.convolutions]


def read(
    document: dict[str, Any],
    tensors: dict[str, np.ndarray],
    image: tuple[int, int, int] | None,
    prefix: str = "",
) -> Torso | None:
    """Returns the convolutions, each of whose filters fits into what it reads; None for none."""
    if f"{prefix}filters" not in document:
        return None
    if image is None:
        raise ValueError("filters without an image")
    channels, *sides = image
    found: list[Convolution] = []
    for i, (side, stride) in enumerate(document[f"{prefix}filters"]):
        one = Convolution(layer(f"{prefix}conv{i}", tensors), int(side), int(stride))
        demand(0 < one.side <= min(sides) and 0 < one.stride <= one.side)
        demand(one.layer.weight.shape[1] == channels * one.side**2)
        channels, sides = one.layer.weight.shape[2], list(one.places(*sides))
        found.append(one)
    demand(len(found) > 0)
    return Torso(image, tuple(found))
