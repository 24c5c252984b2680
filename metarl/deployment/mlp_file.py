"""MLP policies in the files of saved policies."""

from __future__ import annotations

from metarl.acting.policy import MlpActing
from metarl.deployment import torso_file
from metarl.deployment.layers_file import layers, put_layers
from metarl.deployment.policy_kind import Document, Found, Kind, Tensors

PREFIX = "layer"


def put(acting: MlpActing, document: Document, tensors: Tensors) -> None:
    """Adds the layers, and the convolutions before them."""
    torso_file.put(acting.torso, document, tensors)
    put_layers(PREFIX, acting.layers, tensors)


def read(found: Found, more: int = 0) -> MlpActing:
    """Returns the policy, which reads the observation and `more` numbers."""
    inputs, torso = found.obs_dim + more, found.torso()
    first = inputs if torso is None else torso.width(inputs)
    own = layers(PREFIX, found.tensors, first, found.outputs)
    return MlpActing(own, found.activation, found.family, found.normal(inputs), torso)


KIND = Kind("mlp", MlpActing, put, read)
