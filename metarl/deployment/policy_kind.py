"""Kinds of saved policies: each writes what is its own, and reads it from checked files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from metarl.acting.families import Family
from metarl.acting.policy import Normal
from metarl.acting.torso import Torso
from metarl.deployment import torso_file
from metarl.deployment.layers_file import demand, finite

Document = dict[str, Any]
Tensors = dict[str, np.ndarray]


class Found(NamedTuple):
    """Contents of a saved policy, and what its spaces say about any kind of policy."""

    document: Document
    tensors: Tensors
    obs_dim: int
    """Numbers of an observation, with those that are told of the task."""
    image: tuple[int, int, int] | None
    """Channels, height and width of the image that observations begin with."""
    codes: int
    """Numbers of an action as networks read it."""
    outputs: int
    """Numbers that the distribution of actions takes from the network."""
    family: Family

    @property
    def activation(self) -> str:
        """Returns `relu` or `tanh`; raises a ValueError for another."""
        demand(self.document["activation"] in ("relu", "tanh"))
        return self.document["activation"]

    def normal(self, inputs: int) -> Normal | None:
        """Returns the normalisation of a policy's `inputs` numbers; None where there is none."""
        if "clip" not in self.document:
            return None
        mean, deviation = (self.tensors[f"normal.{name}"] for name in ("mean", "deviation"))
        demand(mean.shape == deviation.shape == (inputs,) and bool((deviation > 0).all()))
        normal = Normal(mean, deviation, finite(self.document["clip"]))
        demand(normal.clip > 0)
        return normal

    def torso(self, prefix: str = "") -> Torso | None:
        """Returns the convolutions with that prefix; None where there are none."""
        return torso_file.read(self.document, self.tensors, self.image, prefix)


class Kind(NamedTuple):
    """A kind of policy that can be saved."""

    name: str
    """Stands in the file."""
    acting: type
    """Class of the policies of this kind."""
    put: Callable[[Any, Document, Tensors], None]
    """Adds what a policy has beyond its family and its normalisation."""
    read: Callable[[Found], Any]
    """Returns the policy; raises a ValueError or a KeyError for parts that are missing or do not
    fit."""
