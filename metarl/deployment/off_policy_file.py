"""Policies of recurrent SAC in the files of saved policies."""

from __future__ import annotations

from typing import Any

import numpy as np

from metarl.acting.families import Family
from metarl.acting.off_policy import OffPolicyActing
from metarl.acting.policy import Normal
from metarl.acting.recurrent import Gates
from metarl.deployment.layers_file import demand, layer, layers, put_layers
from metarl.deployment.recurrent_file import remembered, reward_scale


def put(acting: OffPolicyActing, document: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Adds what the policy has beyond its family and its normalisation."""
    put_layers("encoder", (acting.embed,), tensors)
    put_layers("cell", (acting.inputs, acting.hidden), tensors)
    put_layers("now", (acting.now,), tensors)
    put_layers("head", acting.head, tensors)
    document["before_dim"] = acting.before_dim
    if acting.scale is not None:
        document["reward_scale"] = [float(x) for x in acting.scale]
    if acting.memory is not None and acting.before is not None:
        tensors |= {"memory0": acting.memory, "before": acting.before}


def read(
    document: dict[str, Any],
    tensors: dict[str, np.ndarray],
    obs_dim: int,
    outputs: int,
    family: Family,
    normal: Normal | None,
) -> OffPolicyActing:
    """Returns the policy from observations [obs_dim] to `outputs` numbers; raises a ValueError or a
    KeyError for parts that are missing or do not fit."""
    (embed,) = layers("encoder", tensors, obs_dim + document["before_dim"], None)
    (now,) = layers("now", tensors, obs_dim, None)
    of_inputs, of_hidden = (layer(f"cell{i}", tensors) for i in range(2))
    size = of_hidden.weight.shape[1]
    demand(of_inputs.weight.shape[1:] == (embed.weight.shape[2], 3 * size))
    demand(of_hidden.weight.shape[2] == 3 * size)
    head = layers("head", tensors, size + now.weight.shape[2], outputs)
    gates = Gates("gru", of_inputs, of_hidden)
    memory, before = remembered(document, tensors, gates)
    return OffPolicyActing(
        embed, of_inputs, of_hidden, now, head, document["activation"], family, normal,
        reward_scale(document), None if memory is None else memory[0], before,
        document["before_dim"],
    )  # fmt: skip
