"""Saved policies of episodes: the parameters that `metarl/acting` reads, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from metarl.acting.attention import Attention, Block, Norm
from metarl.acting.families import ChosenActions, Family, GaussianActions
from metarl.acting.policy import Layer, MlpActing, Normal
from metarl.acting.recurrent import Gates, RecurrentActing, RewardScale
from metarl.acting.torso import Convolution, Torso
from metarl.deployment import folder, spaces
from metarl.envs.gym.images import image_shape
from metarl.envs.gym.spaces import flat_actions, flat_observations
from metarl.sampling.draws import KINDS

if TYPE_CHECKING:
    from metarl.deployment.policy import Interface

MLP, RECURRENT = "mlp", "recurrent"
TRANSFORMER = "transformer"


def write(
    path: Path, acting: MlpActing | RecurrentActing, interface: Interface, facts: Mapping[str, Any]
) -> Path:
    """Writes a policy into a new folder; raises as `folder.write`."""
    tensors: dict[str, np.ndarray] = {"told": interface.told}
    document: dict[str, Any] = {
        "made_from": dict(facts),
        "observation_space": spaces.as_json(interface.observation_space, acted=False),
        "action_space": spaces.as_json(interface.action_space, acted=True),
        "noise": list(interface.noise),
        "activation": acting.activation,
    }
    if acting.normal is not None:
        tensors |= {"normal.mean": acting.normal.mean, "normal.deviation": acting.normal.deviation}
        document["clip"] = float(acting.normal.clip)
    _put_family(acting.family, document, tensors)
    if (torso := getattr(acting, "torso", None)) is not None:
        filters = torso.convolutions
        _put_layers("conv", tuple(x.layer for x in filters), tensors)
        document["filters"] = [[x.side, x.stride] for x in filters]
    if isinstance(acting, MlpActing):
        _put_layers("layer", acting.layers, tensors)
        return folder.write(path, {"kind": MLP, **document}, tensors)
    _put_layers("encoder", acting.encoder, tensors)
    _put_cell(acting.cell, document, tensors)
    _put_layers("head", acting.head, tensors)
    document["before_dim"] = acting.before_dim
    if acting.scale is not None:
        document["reward_scale"] = [float(x) for x in acting.scale]
    if acting.memory is not None and acting.before is not None:
        tensors |= {f"memory{i}": x for i, x in enumerate(acting.memory)}
        tensors["before"] = acting.before
    return folder.write(path, {"kind": RECURRENT, **document}, tensors)


def _put_layers(prefix: str, layers: tuple[Layer, ...], tensors: dict[str, np.ndarray]) -> None:
    for i, layer in enumerate(layers):
        tensors |= {f"{prefix}{i}.weight": layer.weight, f"{prefix}{i}.bias": layer.bias}


def _put_cell(
    cell: Gates | Attention, document: dict[str, Any], tensors: dict[str, np.ndarray]
) -> None:
    if isinstance(cell, Gates):
        document["cell"] = cell.kind
        _put_layers("cell", (cell.inputs, cell.hidden), tensors)
        return
    document |= {"cell": TRANSFORMER, "heads": cell.heads, "window": cell.window}
    layers = [x for block in cell.blocks for x in block if isinstance(x, Layer)]
    norms = [x for block in cell.blocks for x in block if isinstance(x, Norm)]
    _put_layers("cell", (cell.entry, *layers), tensors)
    for i, norm in enumerate((*norms, cell.norm)):
        tensors |= {f"norm{i}.weight": norm.weight, f"norm{i}.bias": norm.bias}


def _put_family(family: Family, document: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    if isinstance(family, ChosenActions):
        document["options"] = list(family.options)
        return
    document["min_log_std"] = float(family.min_log_std)
    for name in ("log_std", "middle", "half"):
        if (x := getattr(family, name)) is not None:
            tensors[f"family.{name}"] = x


def restored(
    saved: folder.Saved, path: Path
) -> tuple[MlpActing | RecurrentActing, dict[str, Any], dict[str, Any]]:
    """Returns the policy, the fields of its Interface and its facts.

    Raises:
        UserError: for anything that `write` does not write; it names the file.
    """
    place = path / folder.DOCUMENT
    try:
        return _restored(saved, place)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if type(error).__name__ == "UserError":
            raise
        raise folder.damaged(place, f"it describes no policy ({error!r:.80})") from None


def _restored(
    saved: folder.Saved, place: Path
) -> tuple[MlpActing | RecurrentActing, dict[str, Any], dict[str, Any]]:
    document, tensors = saved
    seen = spaces.from_json(document["observation_space"], str(place))
    acted = spaces.from_json(document["action_space"], str(place))
    kind, width = document["noise"]
    told, normal = _float32(tensors["told"], 1), None
    obs_dim = flat_observations(seen, str(place)).shape[0] + len(told)
    action_space = flat_actions(acted, str(place))
    if "clip" in document:
        mean, deviation = (tensors[f"normal.{name}"] for name in ("mean", "deviation"))
        _demand(mean.shape == deviation.shape == (obs_dim,) and bool((deviation > 0).all()))
        normal = Normal(mean, deviation, _finite(document["clip"]))
        _demand(normal.clip > 0)
    family, outputs = _family(document, tensors, action_space)
    codes = sum(family.options) if isinstance(family, ChosenActions) else len_of(action_space)
    _demand(kind == family.noise and kind in KINDS and int(width) == codes)
    activation = document["activation"]
    _demand(activation in ("relu", "tanh"))
    interface = {
        "observation_space": seen,
        "action_space": acted,
        "noise": (kind, int(width)),
        "told": told,
    }
    facts = document["made_from"]
    _demand(isinstance(facts, dict))
    torso, width = _torso(document, tensors, image_shape(seen, str(place))), obs_dim
    if torso is not None:
        width += torso.features - prod(torso.image)
    if document["kind"] == MLP:
        layers = _layers("layer", tensors, width, outputs)
        return MlpActing(layers, activation, family, normal, torso), interface, facts
    _demand(document["kind"] == RECURRENT)
    _demand(document["before_dim"] == codes + 2)
    acting = _recurrent(document, tensors, width + codes + 2, outputs, family, normal)
    return acting._replace(torso=torso), interface, facts


def _torso(
    document: dict[str, Any],
    tensors: dict[str, np.ndarray],
    image: tuple[int, int, int] | None,
) -> Torso | None:
    """Returns the convolutions, each of whose filters fits into what it reads; None for none."""
    if "filters" not in document:
        return None
    if image is None:
        raise ValueError("filters without an image")
    channels, *sides = image
    found: list[Convolution] = []
    for i, (side, stride) in enumerate(document["filters"]):
        one = Convolution(_layer(f"conv{i}", tensors), int(side), int(stride))
        _demand(0 < one.side <= min(sides) and 0 < one.stride <= one.side)
        _demand(one.layer.weight.shape[1] == channels * one.side**2)
        channels, sides = one.layer.weight.shape[2], list(one.places(*sides))
        found.append(one)
    _demand(len(found) > 0)
    return Torso(image, tuple(found))


def len_of(space: Box | Discrete | MultiDiscrete) -> int:
    """Returns the numbers of a flat Box."""
    return space.shape[0] if space.shape else 1


def _recurrent(
    document: dict[str, Any],
    tensors: dict[str, np.ndarray],
    inputs: int,
    outputs: int,
    family: Family,
    normal: Normal | None,
) -> RecurrentActing:
    size = _layer("head0", tensors).weight.shape[1]
    head = _layers("head", tensors, size, outputs)
    encoder = _layers("encoder", tensors, inputs, None)
    encoded = encoder[-1].weight.shape[2] if encoder else inputs
    cell = _cell(document, tensors, encoded, size)
    scale = memory = before = None
    if "reward_scale" in document:
        root, clip = (_finite(x) for x in document["reward_scale"])
        _demand(root > 0 and clip > 0)
        scale = RewardScale(root, clip)
    if "before" in tensors:
        memory = _memory(cell, tensors)
        before = _float32(tensors["before"], 3)
        _demand(before.shape == (1, 1, document["before_dim"]))
    return RecurrentActing(
        encoder, cell, head, document["activation"], family, normal, scale, memory, before,
        document["before_dim"],
    )  # fmt: skip


def _cell(
    document: dict[str, Any], tensors: dict[str, np.ndarray], inputs: int, size: int
) -> Gates | Attention:
    kind = document["cell"]
    if kind != TRANSFORMER:
        width = {"gru": 3, "lstm": 4}[kind] * size
        of_inputs, of_hidden = (_layer(f"cell{i}", tensors) for i in range(2))
        _demand(of_inputs.weight.shape[1:] == (inputs, width))
        _demand(of_hidden.weight.shape[1:] == (size, width))
        return Gates(kind, of_inputs, of_hidden)
    heads, window = (int(document[name]) for name in ("heads", "window"))
    _demand(heads > 0 < window and size % (2 * heads) == 0)
    norms = [_norm(f"norm{i}", tensors, size) for i in range(_count("norm", tensors))]
    entry, *layers = (_layer(f"cell{i}", tensors) for i in range(_count("cell", tensors)))
    _demand(entry.weight.shape[1:] == (inputs, size) and len(layers) == 2 * (len(norms) - 1))
    blocks = []
    for i in range(len(layers) // 4):
        qkv, out, up, down = layers[4 * i : 4 * i + 4]
        wide = up.weight.shape[2]
        shapes = [x.weight.shape[1:] for x in (qkv, out, up, down)]
        _demand(shapes == [(size, 3 * size), (size, size), (size, wide), (wide, size)])
        blocks.append(Block(norms[2 * i], qkv, out, norms[2 * i + 1], up, down))
    _demand(len(layers) == 4 * len(blocks))
    return Attention(entry, tuple(blocks), norms[-1], heads, window)


def _memory(cell: Gates | Attention, tensors: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    if isinstance(cell, Gates):
        count = 1 if cell.kind == "gru" else 2
        states = tuple(_float32(tensors[f"memory{i}"], 3) for i in range(count))
        _demand(all(x.shape == (1, 1, cell.size) for x in states))
        return states
    kept, mask = _float32(tensors["memory0"], 7), _float32(tensors["memory1"], 3)
    each = (len(cell.blocks), 2, cell.heads, mask.shape[2], cell.size // cell.heads)
    _demand(kept.shape == (1, 1, *each) and mask.shape[:2] == (1, 1))
    _demand(bool(np.isin(mask, (0.0, 1.0)).all()))
    return kept, mask


def _norm(name: str, tensors: dict[str, np.ndarray], size: int) -> Norm:
    weight, bias = (_float32(tensors[f"{name}.{part}"], 1) for part in ("weight", "bias"))
    _demand(weight.shape == bias.shape == (size,))
    return Norm(weight, bias)


def _family(
    document: dict[str, Any], tensors: dict[str, np.ndarray], space: Box | Discrete | MultiDiscrete
) -> tuple[Family, int]:
    """Returns the distribution of actions, and the numbers that it takes from the network."""
    if not isinstance(space, Box):
        options = (int(space.n),) if isinstance(space, Discrete) else tuple(space.nvec.tolist())
        _demand(document["options"] == list(options))
        return ChosenActions(options), sum(options)
    width = space.shape[0]
    log_std = tensors.get("family.log_std")
    middle, half = (tensors.get(f"family.{name}") for name in ("middle", "half"))
    _demand(log_std is None or _float32(log_std, 2).shape == (1, width))
    _demand((middle is None) == (half is None))
    for x in (middle, half):
        _demand(x is None or _float32(x, 1).shape == (width,))
    floor = np.float32(_finite(document["min_log_std"]))
    return GaussianActions(log_std, floor, middle, half), width * (2 if log_std is None else 1)


def _layers(
    prefix: str, tensors: dict[str, np.ndarray], inputs: int, outputs: int | None
) -> tuple[Layer, ...]:
    number = _count(prefix, tensors)
    layers, width = tuple(_layer(f"{prefix}{i}", tensors) for i in range(number)), inputs
    for layer in layers:
        _demand(layer.weight.shape[1] == width)
        width = layer.weight.shape[2]
    _demand(outputs is None or (number > 0 and width == outputs))
    return layers


def _count(prefix: str, tensors: dict[str, np.ndarray]) -> int:
    """Returns the number of layers whose names begin so."""
    return sum(name.startswith(prefix) and name.endswith(".weight") for name in tensors)


def _layer(name: str, tensors: dict[str, np.ndarray]) -> Layer:
    weight, bias = _float32(tensors[f"{name}.weight"], 3), _float32(tensors[f"{name}.bias"], 2)
    _demand(len(weight) == 1 and bias.shape == (1, weight.shape[2]))
    return Layer(weight, bias)


def _float32(x: np.ndarray, dimensions: int) -> np.ndarray:
    _demand(x.dtype == np.float32 and x.ndim == dimensions)
    return x


def _finite(x: Any) -> float:
    _demand(math.isfinite(x))
    return float(x)


def _demand(fits: bool) -> None:
    if not fits:
        raise ValueError("its parts do not fit together")
