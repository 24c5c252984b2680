"""Saved policies of episodes: the parameters that `metarl/acting` reads, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from metarl.acting.belief import BeliefActing
from metarl.acting.families import ChosenActions, Family, GaussianActions, SquashedActions
from metarl.acting.off_policy import OffPolicyActing
from metarl.acting.policy import MlpActing, Normal
from metarl.acting.recurrent import RecurrentActing
from metarl.deployment import (
    belief_file,
    folder,
    layers_file,
    off_policy_file,
    recurrent_file,
    spaces,
    torso_file,
)
from metarl.deployment.layers_file import demand, finite, float32
from metarl.envs.gym.images import image_shape
from metarl.envs.gym.spaces import flat_actions, flat_observations
from metarl.sampling.draws import KINDS

if TYPE_CHECKING:
    from metarl.deployment.policy import Interface

MLP, RECURRENT, OFF_POLICY, BELIEF = "mlp", "recurrent", "off-policy", "belief"

Saveable: TypeAlias = MlpActing | RecurrentActing | OffPolicyActing | BeliefActing
"""Policies that can be saved."""


def write(path: Path, acting: Saveable, interface: Interface, facts: Mapping[str, Any]) -> Path:
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
    own = acting.policy if isinstance(acting, BeliefActing) else acting
    if isinstance(own, MlpActing | RecurrentActing) and own.torso is not None:
        torso_file.put(own.torso, document, tensors)
    match acting:
        case MlpActing():
            kind = MLP
            layers_file.put_layers("layer", acting.layers, tensors)
        case BeliefActing():
            kind = BELIEF
            belief_file.put(acting, document, tensors)
        case OffPolicyActing():
            kind = OFF_POLICY
            off_policy_file.put(acting, document, tensors)
        case RecurrentActing():
            kind = RECURRENT
            recurrent_file.put(acting, document, tensors)
    return folder.write(path, {"kind": kind, **document}, tensors)


def _put_family(family: Family, document: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    if isinstance(family, ChosenActions):
        document["options"] = list(family.options)
        return
    document["min_log_std"] = float(family.min_log_std)
    if np.isfinite(family.max_log_std):
        document["max_log_std"] = float(family.max_log_std)
    if isinstance(family, SquashedActions):
        document["squashed"] = True
        tensors |= {"family.middle": family.middle, "family.half": family.half}
        return
    for name in ("log_std", "middle", "half"):
        if (x := getattr(family, name)) is not None:
            tensors[f"family.{name}"] = x


def restored(saved: folder.Saved, path: Path) -> tuple[Saveable, dict[str, Any], dict[str, Any]]:
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


def _restored(saved: folder.Saved, place: Path) -> tuple[Saveable, dict[str, Any], dict[str, Any]]:
    document, tensors = saved
    seen = spaces.from_json(document["observation_space"], str(place))
    acted = spaces.from_json(document["action_space"], str(place))
    kind, width = document["noise"]
    told, normal = float32(tensors["told"], 1), None
    obs_dim = flat_observations(seen, str(place)).shape[0] + len(told)
    action_space = flat_actions(acted, str(place))
    inputs = obs_dim
    if document["kind"] == BELIEF:  # the policy reads the belief beside the observation
        inputs += belief_file.width(tensors)
    if "clip" in document:
        mean, deviation = (tensors[f"normal.{name}"] for name in ("mean", "deviation"))
        demand(mean.shape == deviation.shape == (inputs,) and bool((deviation > 0).all()))
        normal = Normal(mean, deviation, finite(document["clip"]))
        demand(normal.clip > 0)
    family, outputs = _family(document, tensors, action_space)
    codes = sum(family.options) if isinstance(family, ChosenActions) else len_of(action_space)
    demand(kind == family.noise and kind in KINDS and int(width) == codes)
    activation = document["activation"]
    demand(activation in ("relu", "tanh"))
    interface = {
        "observation_space": seen,
        "action_space": acted,
        "noise": (kind, int(width)),
        "told": told,
    }
    facts = document["made_from"]
    demand(isinstance(facts, dict))
    torso = torso_file.read(document, tensors, image_shape(seen, str(place)))
    if torso is not None:
        inputs += torso.features - prod(torso.image)
    if document["kind"] in (MLP, BELIEF):
        layers = layers_file.layers("layer", tensors, inputs, outputs)
        acting = MlpActing(layers, activation, family, normal, torso)
        if document["kind"] == BELIEF:
            acting = belief_file.read(document, tensors, acting, obs_dim, codes)
        return acting, interface, facts
    demand(document["before_dim"] == codes + 2)
    if document["kind"] == OFF_POLICY:
        acting = off_policy_file.read(document, tensors, obs_dim, outputs, family, normal)
        return acting, interface, facts
    demand(document["kind"] == RECURRENT)
    acting = recurrent_file.read(document, tensors, inputs + codes + 2, outputs, family, normal)
    return acting._replace(torso=torso), interface, facts


def len_of(space: Box | Discrete | MultiDiscrete) -> int:
    """Returns the numbers of a flat Box."""
    return space.shape[0] if space.shape else 1


def _family(
    document: dict[str, Any], tensors: dict[str, np.ndarray], space: Box | Discrete | MultiDiscrete
) -> tuple[Family, int]:
    """Returns the distribution of actions, and the numbers that it takes from the network."""
    if not isinstance(space, Box):
        options = (int(space.n),) if isinstance(space, Discrete) else tuple(space.nvec.tolist())
        demand(document["options"] == list(options))
        return ChosenActions(options), sum(options)
    width = space.shape[0]
    log_std = tensors.get("family.log_std")
    middle, half = (tensors.get(f"family.{name}") for name in ("middle", "half"))
    demand(log_std is None or float32(log_std, 2).shape == (1, width))
    demand((middle is None) == (half is None))
    for x in (middle, half):
        demand(x is None or float32(x, 1).shape == (width,))
    floor = np.float32(finite(document["min_log_std"]))
    top = np.float32(finite(document["max_log_std"]) if "max_log_std" in document else np.inf)
    demand(bool(floor <= top))
    if document.get("squashed"):
        demand(log_std is None)
        middle, half = tensors["family.middle"], tensors["family.half"]
        return SquashedActions(floor, top, middle, half), 2 * width
    family = GaussianActions(log_std, floor, top, middle, half)
    return family, width * (2 if log_std is None else 1)
