"""Policies with a memory in the files of saved policies."""

from __future__ import annotations

from typing import Any

import numpy as np

from metarl.acting.attention import Attention, Block, Norm
from metarl.acting.families import Family
from metarl.acting.policy import Layer, Normal
from metarl.acting.recurrent import Gates, RecurrentActing, RewardScale
from metarl.deployment.layers_file import count, demand, finite, float32, layer, layers, put_layers

TRANSFORMER = "transformer"


def put(acting: RecurrentActing, document: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Adds what a policy with a memory has beyond its family and its normalisation."""
    put_layers("encoder", acting.encoder, tensors)
    _put_cell(acting.cell, document, tensors)
    put_layers("head", acting.head, tensors)
    document["before_dim"] = acting.before_dim
    if acting.scale is not None:
        document["reward_scale"] = [float(x) for x in acting.scale]
    if acting.memory is not None and acting.before is not None:
        tensors |= {f"memory{i}": x for i, x in enumerate(acting.memory)}
        tensors["before"] = acting.before


def _put_cell(
    cell: Gates | Attention, document: dict[str, Any], tensors: dict[str, np.ndarray]
) -> None:
    if isinstance(cell, Gates):
        document["cell"] = cell.kind
        put_layers("cell", (cell.inputs, cell.hidden), tensors)
        return
    document |= {"cell": TRANSFORMER, "heads": cell.heads, "window": cell.window}
    inner = [x for block in cell.blocks for x in block if isinstance(x, Layer)]
    norms = [x for block in cell.blocks for x in block if isinstance(x, Norm)]
    put_layers("cell", (cell.entry, *inner), tensors)
    for i, norm in enumerate((*norms, cell.norm)):
        tensors |= {f"norm{i}.weight": norm.weight, f"norm{i}.bias": norm.bias}


def read(
    document: dict[str, Any],
    tensors: dict[str, np.ndarray],
    inputs: int,
    outputs: int,
    family: Family,
    normal: Normal | None,
) -> RecurrentActing:
    """Returns the policy from `inputs` numbers a step to `outputs`; raises a ValueError or a
    KeyError for parts that are missing or do not fit."""
    size = layer("head0", tensors).weight.shape[1]
    head = layers("head", tensors, size, outputs)
    encoder = layers("encoder", tensors, inputs, None)
    encoded = encoder[-1].weight.shape[2] if encoder else inputs
    cell = _cell(document, tensors, encoded, size)
    memory, before = remembered(document, tensors, cell)
    return RecurrentActing(
        encoder, cell, head, document["activation"], family, normal, reward_scale(document),
        memory, before, document["before_dim"],
    )  # fmt: skip


def reward_scale(document: dict[str, Any]) -> RewardScale | None:
    """Returns the scale of the rewards in the inputs; None where they have their own unit."""
    if "reward_scale" not in document:
        return None
    root, clip = (finite(x) for x in document["reward_scale"])
    demand(root > 0 and clip > 0)
    return RewardScale(root, clip)


def remembered(
    document: dict[str, Any], tensors: dict[str, np.ndarray], cell: Gates | Attention
) -> tuple[tuple[np.ndarray, ...] | None, np.ndarray | None]:
    """Returns what a policy remembered after adaptation: its memory, and its last step."""
    if "before" not in tensors:
        return None, None
    before = float32(tensors["before"], 3)
    demand(before.shape == (1, 1, document["before_dim"]))
    return _memory(cell, tensors), before


def _cell(
    document: dict[str, Any], tensors: dict[str, np.ndarray], inputs: int, size: int
) -> Gates | Attention:
    kind = document["cell"]
    if kind != TRANSFORMER:
        width = {"gru": 3, "lstm": 4}[kind] * size
        of_inputs, of_hidden = (layer(f"cell{i}", tensors) for i in range(2))
        demand(of_inputs.weight.shape[1:] == (inputs, width))
        demand(of_hidden.weight.shape[1:] == (size, width))
        return Gates(kind, of_inputs, of_hidden)
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


def _memory(cell: Gates | Attention, tensors: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    if isinstance(cell, Gates):
        names = ("memory0",) if cell.kind == "gru" else ("memory0", "memory1")
        states = tuple(float32(tensors[name], 3) for name in names)
        demand(all(x.shape == (1, 1, cell.size) for x in states))
        return states
    kept, mask = float32(tensors["memory0"], 7), float32(tensors["memory1"], 3)
    each = (len(cell.blocks), 2, cell.heads, mask.shape[2], cell.size // cell.heads)
    demand(kept.shape == (1, 1, *each) and mask.shape[:2] == (1, 1))
    demand(bool(np.isin(mask, (0.0, 1.0)).all()))
    return kept, mask


def _norm(name: str, tensors: dict[str, np.ndarray], size: int) -> Norm:
    weight, bias = (float32(tensors[f"{name}.{part}"], 1) for part in ("weight", "bias"))
    demand(weight.shape == bias.shape == (size,))
    return Norm(weight, bias)
