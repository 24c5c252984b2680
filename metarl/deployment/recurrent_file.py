"""Policies with a memory in the files of saved policies."""

from __future__ import annotations

import numpy as np

from metarl.acting.attention import Attention, Block, Norm
from metarl.acting.policy import Layer
from metarl.acting.recurrent import Gates, Memory, RecurrentActing
from metarl.deployment import torso_file, trial_file
from metarl.deployment.layers_file import count, demand, float32, layer, layers, put_layers
from metarl.deployment.policy_kind import Document, Found, Kind, Tensors

TRANSFORMER = "transformer"


def put(acting: RecurrentActing, document: Document, tensors: Tensors) -> None:
    """Adds what a policy with a memory has beyond its family and its normalisation."""
    torso_file.put(acting.torso, document, tensors)
    put_layers("encoder", acting.encoder, tensors)
    _put_cell(acting.cell, document, tensors)
    put_layers("head", acting.head, tensors)
    trial_file.put_before(acting.before_dim, acting.before, document, tensors)
    trial_file.put_scale(acting.scale, document)
    trial_file.put_memory(acting.memory, tensors)


def _put_cell(cell: Gates | Attention, document: Document, tensors: Tensors) -> None:
    if isinstance(cell, Gates):
        document["cell"] = cell.kind
        trial_file.put_gates(cell, tensors)
        return
    document |= {"cell": TRANSFORMER, "heads": cell.heads, "window": cell.window}
    inner = [x for block in cell.blocks for x in block if isinstance(x, Layer)]
    norms = [x for block in cell.blocks for x in block if isinstance(x, Norm)]
    put_layers("cell", (cell.entry, *inner), tensors)
    for i, norm in enumerate((*norms, cell.norm)):
        tensors |= {f"norm{i}.weight": norm.weight, f"norm{i}.bias": norm.bias}


def read(found: Found) -> RecurrentActing:
    """Returns the policy."""
    document, tensors, torso = found.document, found.tensors, found.torso()
    before = trial_file.before(found)
    inputs = found.obs_dim + document["before_dim"]
    inputs = inputs if torso is None else torso.width(inputs)
    size = layer("head0", tensors).weight.shape[1]
    head = layers("head", tensors, size, found.outputs)
    encoder = layers("encoder", tensors, inputs, None)
    encoded = encoder[-1].weight.shape[2] if encoder else inputs
    cell = _cell(document, tensors, encoded, size)
    memory = _memory(cell, tensors)
    demand((memory is None) == (before is None))
    return RecurrentActing(
        encoder, cell, head, found.activation, found.family, found.normal(found.obs_dim),
        trial_file.scale(document), memory, before, document["before_dim"], torso,
    )  # fmt: skip


def _cell(document: Document, tensors: Tensors, inputs: int, size: int) -> Gates | Attention:
    kind = document["cell"]
    if kind != TRANSFORMER:
        return trial_file.gates(kind, tensors, inputs, size)
    heads, window = (int(document[name]) for name in ("heads", "window"))
    demand(heads > 0 < window and size % (2 * heads) == 0)
    norms = [_norm(f"norm{i}", tensors, size) for i in range(count("norm", tensors))]
    entry, *inner = (layer(f"cell{i}", tensors) for i in range(count("cell", tensors)))
    demand(entry.weight.shape[1:] == (inputs, size) and len(inner) == 2 * (len(norms) - 1))
    blocks = []
    for i in range(len(inner) // 4):
        qkv, out, up, down = inner[4 * i : 4 * i + 4]
        wide = up.weight.shape[2]
        shapes = [x.weight.shape[1:] for x in (qkv, out, up, down)]
        demand(shapes == [(size, 3 * size), (size, size), (size, wide), (wide, size)])
        blocks.append(Block(norms[2 * i], qkv, out, norms[2 * i + 1], up, down))
    demand(len(inner) == 4 * len(blocks))
    return Attention(entry, tuple(blocks), norms[-1], heads, window)


def _memory(cell: Gates | Attention, tensors: Tensors) -> Memory | None:
    """Returns the memory after adaptation; None where there is none."""
    if isinstance(cell, Gates):
        return trial_file.memory_of_gates(cell, tensors)
    if "memory0" not in tensors:
        return None
    kept, mask = float32(tensors["memory0"], 7), float32(tensors["memory1"], 3)
    each = (len(cell.blocks), 2, cell.heads, mask.shape[2], cell.size // cell.heads)
    demand(kept.shape == (1, 1, *each) and mask.shape[:2] == (1, 1))
    demand(bool(np.isin(mask, (0.0, 1.0)).all()))
    return kept, mask


def _norm(name: str, tensors: Tensors, size: int) -> Norm:
    weight, bias = (float32(tensors[f"{name}.{part}"], 1) for part in ("weight", "bias"))
    demand(weight.shape == bias.shape == (size,))
    return Norm(weight, bias)


KIND = Kind("recurrent", RecurrentActing, put, read)
