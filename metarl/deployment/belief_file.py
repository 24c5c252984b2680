"""Policies that read a belief, VariBAD's, in the files of saved policies."""

from __future__ import annotations

from metarl.acting.belief import BeliefActing
from metarl.deployment import mlp_file, torso_file, trial_file
from metarl.deployment.layers_file import demand, layer, put_layers
from metarl.deployment.policy_kind import Document, Found, Kind, Tensors

ENCODER = "encoder."
"""Prefix of the names of the encoder's convolutions; the policy's have none."""


def put(acting: BeliefActing, document: Document, tensors: Tensors) -> None:
    """Adds the policy's layers and the encoder."""
    mlp_file.put(acting.policy, document, tensors)
    torso_file.put(acting.torso, document, tensors, ENCODER)
    put_layers("part", (acting.obs, acting.action, acting.reward), tensors)
    trial_file.put_gates(acting.cell, tensors)
    put_layers("posterior", (acting.posterior,), tensors)
    trial_file.put_scale(acting.scale, document)
    trial_file.put_memory(acting.memory, tensors)


def read(found: Found) -> BeliefActing:
    """Returns the policy with its encoder of observations, actions and rewards."""
    tensors, torso = found.tensors, found.torso(ENCODER)
    seen = found.obs_dim if torso is None else torso.width(found.obs_dim)
    obs, action, reward = parts = [layer(f"part{i}", tensors) for i in range(3)]
    demand([x.weight.shape[1] for x in parts] == [seen, found.codes, 1])
    posterior = layer("posterior0", tensors)
    size, numbers = posterior.weight.shape[1:]
    demand(numbers % 2 == 0)
    cell = trial_file.gates("gru", tensors, sum(x.weight.shape[2] for x in parts), size)
    memory, scale = trial_file.memory_of_gates(cell, tensors), trial_file.scale(found.document)
    policy = mlp_file.read(found, numbers)  # it reads the belief beside the observation
    return BeliefActing(obs, action, reward, cell, posterior, policy, scale, memory, torso)


KIND = Kind("belief", BeliefActing, put, read)
