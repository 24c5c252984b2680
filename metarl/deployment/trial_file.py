"""Parts of policies that remember a trial, in the files of saved policies."""

from __future__ import annotations

import numpy as np

from metarl.acting.recurrent import Gates, Memory
from metarl.acting.trials import RewardScale
from metarl.deployment.layers_file import demand, finite, float32, layer, put_layers
from metarl.deployment.policy_kind import Document, Found, Tensors

WIDTHS = {"gru": 3, "lstm": 4}
"""Gates of each kind of cell."""


def put_gates(cell: Gates, tensors: Tensors) -> None:
    """Adds the layers of a GRU or an LSTM."""
    put_layers("cell", (cell.inputs, cell.hidden), tensors)


def gates(kind: str, tensors: Tensors, inputs: int, size: int) -> Gates:
    """Returns a GRU or an LSTM that reads so many inputs."""
    of_inputs, of_hidden = (layer(f"cell{i}", tensors) for i in range(2))
    demand(of_inputs.weight.shape[1:] == (inputs, WIDTHS[kind] * size))
    demand(of_hidden.weight.shape[1:] == (size, WIDTHS[kind] * size))
    return Gates(kind, of_inputs, of_hidden)


def put_scale(scale: RewardScale | None, document: Document) -> None:
    """Adds the scale of the rewards in the inputs, where there is one."""
    if scale is not None:
        document["reward_scale"] = [float(x) for x in scale]


def scale(document: Document) -> RewardScale | None:
    """Returns the scale of the rewards in the inputs; None where they have their own unit."""
    if "reward_scale" not in document:
        return None
    root, clip = (finite(x) for x in document["reward_scale"])
    demand(root > 0 and clip > 0)
    return RewardScale(root, clip)


def put_memory(memory: Memory | None, tensors: Tensors) -> None:
    """Adds the memory after adaptation, where there is one."""
    tensors |= {f"memory{i}": x for i, x in enumerate(memory or ())}


def memory_of_gates(cell: Gates, tensors: Tensors) -> Memory | None:
    """Returns the memory of a GRU or an LSTM after adaptation; None where there is none."""
    if "memory0" not in tensors:
        return None
    names = ("memory0",) if cell.kind == "gru" else ("memory0", "memory1")
    states = tuple(float32(tensors[name], 3) for name in names)
    demand(all(x.shape == (1, 1, cell.size) for x in states))
    return states


def put_before(
    before_dim: int, before: np.ndarray | None, document: Document, tensors: Tensors
) -> None:
    """Adds the inputs that describe the last step of adaptation, and their width."""
    document["before_dim"] = before_dim
    if before is not None:
        tensors["before"] = before


def before(found: Found) -> np.ndarray | None:
    """Returns the inputs that describe the last step of adaptation; None where there was none."""
    demand(found.document["before_dim"] == found.codes + 2)
    if "before" not in found.tensors:
        demand("memory0" not in found.tensors)
        return None
    kept = float32(found.tensors["before"], 3)
    demand(kept.shape == (1, 1, found.codes + 2))
    return kept
