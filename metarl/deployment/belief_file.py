"""Policies that read a belief, VariBAD's, in the files of saved policies."""

from __future__ import annotations

from typing import Any

import numpy as np

from metarl.acting.belief import BeliefActing
from metarl.acting.policy import MlpActing
from metarl.deployment.layers_file import demand, float32, layer, put_layers
from metarl.deployment.recurrent_file import reward_scale


def put(acting: BeliefActing, document: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Adds what the policy has beyond its family and its normalisation."""
    put_layers("layer", acting.policy.layers, tensors)
    put_layers("part", (acting.obs, acting.action, acting.reward), tensors)
    put_layers("cell", (acting.inputs, acting.hidden), tensors)
    put_layers("posterior", (acting.posterior,), tensors)
    if acting.scale is not None:
        document["reward_scale"] = [float(x) for x in acting.scale]
    if acting.memory is not None:
        tensors["memory0"] = acting.memory


def width(tensors: dict[str, np.ndarray]) -> int:
    """Returns the count of numbers of a belief: means and log-variances."""
    return layer("posterior0", tensors).weight.shape[2]


def read(
    document: dict[str, Any],
    tensors: dict[str, np.ndarray],
    policy: MlpActing,
    obs_dim: int,
    codes: int,
) -> BeliefActing:
    """Returns the `policy` with its encoder of observations [obs_dim], actions [codes] and rewards;
    raises a ValueError or a KeyError for parts that are missing or do not fit."""
    obs, action, reward = parts = [layer(f"part{i}", tensors) for i in range(3)]
    demand([x.weight.shape[1] for x in parts] == [obs_dim, codes, 1])
    of_inputs, of_hidden = (layer(f"cell{i}", tensors) for i in range(2))
    posterior = layer("posterior0", tensors)
    size, embedded = posterior.weight.shape[1], sum(x.weight.shape[2] for x in parts)
    demand(posterior.weight.shape[2] % 2 == 0)
    demand(of_inputs.weight.shape[1:] == (embedded, 3 * size))
    demand(of_hidden.weight.shape[1:] == (size, 3 * size))
    memory = float32(tensors["memory0"], 3) if "memory0" in tensors else None
    demand(memory is None or memory.shape == (1, 1, size))
    scale = reward_scale(document)
    return BeliefActing(obs, action, reward, of_inputs, of_hidden, posterior, policy, scale, memory)
