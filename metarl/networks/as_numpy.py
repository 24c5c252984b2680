"""Policies with their parameters as numpy arrays, for worker processes (`metarl/acting`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.acting import attention
from metarl.acting import recurrent as acting
from metarl.acting.belief import BeliefActing
from metarl.acting.families import ChosenActions, Family, GaussianActions, SquashedActions
from metarl.acting.off_policy import OffPolicyActing
from metarl.acting.policy import Layer, MlpActing, Normal
from metarl.acting.recurrent import RecurrentActing
from metarl.acting.torso import Convolution, Torso
from metarl.acting.trials import RewardScale
from metarl.equations.box_gaussian import BoxGaussian
from metarl.networks.attention import Transformer
from metarl.networks.belief import ENCODER, BeliefPolicy, Encoder
from metarl.networks.cells import Cell, Gates
from metarl.networks.mlp import Mlp, MlpPolicy
from metarl.networks.off_policy import RecurrentActor
from metarl.networks.recurrent import RecurrentPolicy
from metarl.types import Params


@torch.no_grad()
def acting_mlp(policy: MlpPolicy, params: Params, normal: Normal | None) -> MlpActing:
    """Returns an MLP policy at `params`, shared or [K, ...].

    A task's context inputs are constants, so they are added to the first layer's bias.
    """
    layers = _layers(policy.network, params)
    if width := policy.config.context:
        weight, bias = params["layer0.weight"], params["layer0.bias"]
        own = torch.matmul(weight[..., -width:], params["context"].unsqueeze(-1)).squeeze(-1)
        kept = layers[0].weight[:, :-width]
        layers = (Layer(np.ascontiguousarray(kept), _of_tasks(bias + own, 1)), *layers[1:])
    if len(layers[0].bias) > len(layers[0].weight):  # the context differs by task, the layer not
        tasks = len(layers[0].bias)
        layers = (layers[0]._replace(weight=layers[0].weight.repeat(tasks, 0)), *layers[1:])
    torso, family = acting_torso(policy.network, params), _family(policy, params)
    return MlpActing(layers, policy.config.activation, family, normal, torso)


@torch.no_grad()
def acting_recurrent(
    policy: RecurrentPolicy,
    params: Params,
    normal: Normal | None,
    scale: RewardScale | None,
    past: Any,
) -> RecurrentActing:
    """Returns a recurrent policy; `past` is what trials remember, None at their begin."""
    return RecurrentActing(
        (*_embedding(policy, params), *_layers(policy.encoder, params)),
        _cell(policy.cell, params),
        _layers(policy.head.network, params),
        policy.config.activation,
        _family(policy.head, params),
        normal,
        scale,
        past and tuple(_array(x) for x in past.memory),
        past and _array(past.before),
        policy.before_dim,
        acting_torso(policy.seen, params),
    )


def _cell(cell: Cell, params: Params) -> acting.Gates | attention.Attention:
    """Returns a recurrent policy's cell in numpy."""
    if isinstance(cell, Gates):
        return _gates(cell.kind, "cell.", params)
    assert isinstance(cell, Transformer)

    def layer(name: str) -> Layer:
        return Layer(*(_of_tasks(params[f"cell.{name}.{part}"], n) for part, n in PARTS))

    def norm(name: str) -> attention.Norm:
        return attention.Norm(*(_array(params[f"cell.{name}.{part}"]) for part, _ in PARTS))

    parts = {"norm0": norm, "qkv": layer, "out": layer, "norm1": norm, "up": layer, "down": layer}
    blocks = tuple(
        attention.Block(**{part: made(f"layer{i}.{part}") for part, made in parts.items()})
        for i in range(cell.layers)
    )
    return attention.Attention(layer("in"), blocks, norm("norm"), cell.heads, cell.window)


def _gates(kind: str, prefix: str, params: Params) -> acting.Gates:
    """Returns the cell of this kind whose parameters' names begin with `prefix`."""
    layers = (
        Layer(*(_of_tasks(params[f"{prefix}{part}_{name}"], n) for part, n in PARTS))
        for name in ("ih", "hh")
    )
    return acting.Gates(kind, *layers)


def _embedding(policy: RecurrentPolicy, params: Params) -> tuple[Layer, ...]:
    """Returns the embeddings of the parts of the inputs as one layer, none where there are none."""
    if not policy.embeddings:
        return ()
    layers = [_layers(one, params)[0] for one in policy.embeddings.values()]
    blocks = torch.block_diag(*(torch.from_numpy(layer.weight[0]) for layer in layers))
    return (Layer(blocks.numpy()[None], np.concatenate([x.bias for x in layers], 1)),)


@torch.no_grad()
def acting_off_policy(
    actor: RecurrentActor,
    params: Params,
    normal: Normal | None,
    scale: RewardScale | None,
    past: Any,
) -> OffPolicyActing:
    """Returns a recurrent actor of SAC; `past` is what trials remember, None at their begin."""
    family: Family = ChosenActions((actor.choices,))
    if not actor.choices:
        middle, half = (np.array(x, np.float32) for x in (actor.kind.middle, actor.kind.half))
        least, most = (np.float32(x) for x in actor.log_stds)
        family = SquashedActions(least, most, middle, half)
    return OffPolicyActing(
        _layers(actor.encoder.embed, params)[0],
        _gates("gru", f"{actor.encoder.prefix}cell.", params),
        _layers(actor.past_memory, params)[0],
        _layers(actor.head, params),
        actor.config.activation,
        family,
        normal,
        scale,
        past and tuple(_array(x) for x in past.memory),
        past and _array(past.before),
        actor.before_dim,
        acting_torso(actor.seen, params),
    )


@torch.no_grad()
def acting_belief(
    policy: BeliefPolicy,
    encoder: Encoder,
    params: Params,
    normal: Normal | None,
    scale: RewardScale | None,
    memory: Tensor | None,
) -> BeliefActing:
    """Returns a policy with its encoder; `memory` [K, e, size] is what trials remember, None at
    their begin."""
    obs, action, reward = (
        _layers(encoder.embeddings.layers[name], params)[0] for name in ("obs", "action", "reward")
    )
    return BeliefActing(
        obs,
        action,
        reward,
        _gates("gru", f"{ENCODER}cell.", params),
        _layers(encoder.posterior, params)[0],
        acting_mlp(policy.mlp, params, normal),
        scale,
        None if memory is None else (_array(memory),),
        acting_torso(encoder.embeddings.layers["obs"], params),
    )


PARTS = (("weight", 2), ("bias", 1))
"""Parameters of a layer, and their dimensions without tasks."""


def _layers(network: Mlp, params: Params) -> tuple[Layer, ...]:
    names = (f"{network.prefix}{i}" for i in range(network.layers))
    return tuple(
        Layer(*(_of_tasks(params[f"{name}.{part}"], n) for part, n in PARTS)) for name in names
    )


def acting_torso(network: Mlp, params: Params) -> Torso | None:
    """Returns the convolutions of a network; None where it has none."""
    if (torso := network.torso) is None:
        return None
    found = []
    for name, plan in zip(torso.names, torso.convolutions, strict=True):
        layer = Layer(*(_of_tasks(params[f"{name}.{part}"], n) for part, n in PARTS))
        found.append(Convolution(layer, plan.side, plan.stride))
    return Torso(torso.convolutions[0].before, tuple(found))


def _of_tasks(x: Tensor, dimensions: int) -> np.ndarray:
    """Returns a parameter as [K or 1, ...]; weights as [K or 1, in, out]."""
    own = x if x.dim() > dimensions else x[None]
    return _array(own.mT if dimensions == 2 else own)


def _array(x: Tensor) -> np.ndarray:
    return x.detach().float().contiguous().cpu().numpy()


def _family(policy: MlpPolicy, params: Params) -> Family:
    if policy.options:
        return ChosenActions(policy.options)
    log_std = _of_tasks(params["log_std"], 1) if policy.std == "shared" else None
    least, most = map(np.float32, policy.config.log_stds)
    box = None, None
    if issubclass(policy.kind, BoxGaussian):
        box = tuple(np.array(x, np.float32) for x in (policy.kind.middle, policy.kind.half))
    return GaussianActions(log_std, least, most, *box)
