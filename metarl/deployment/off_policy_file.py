"""Policies of recurrent SAC in the files of saved policies."""

from __future__ import annotations

from metarl.acting.off_policy import OffPolicyActing
from metarl.deployment import torso_file, trial_file
from metarl.deployment.layers_file import demand, layer, layers, put_layers
from metarl.deployment.policy_kind import Document, Found, Kind, Tensors


def put(acting: OffPolicyActing, document: Document, tensors: Tensors) -> None:
    """Adds what the policy has beyond its family and its normalisation."""
    torso_file.put(acting.torso, document, tensors)
    put_layers("encoder", (acting.embed,), tensors)
    trial_file.put_gates(acting.cell, tensors)
    put_layers("now", (acting.now,), tensors)
    put_layers("head", acting.head, tensors)
    trial_file.put_before(acting.before_dim, acting.before, document, tensors)
    trial_file.put_scale(acting.scale, document)
    trial_file.put_memory(acting.memory, tensors)


def read(found: Found) -> OffPolicyActing:
    """Returns the policy."""
    document, tensors, torso = found.document, found.tensors, found.torso()
    seen = found.obs_dim if torso is None else torso.width(found.obs_dim)
    before = trial_file.before(found)
    (embed,) = layers("encoder", tensors, seen + document["before_dim"], None)
    (now,) = layers("now", tensors, seen, None)
    size = layer("cell1", tensors).weight.shape[1]
    cell = trial_file.gates("gru", tensors, embed.weight.shape[2], size)
    head = layers("head", tensors, size + now.weight.shape[2], found.outputs)
    memory = trial_file.memory_of_gates(cell, tensors)
    demand((memory is None) == (before is None))
    return OffPolicyActing(
        embed, cell, now, head, found.activation, found.family, found.normal(found.obs_dim),
        trial_file.scale(document), memory, before, document["before_dim"], torso,
    )  # fmt: skip


KIND = Kind("off-policy", OffPolicyActing, put, read)
