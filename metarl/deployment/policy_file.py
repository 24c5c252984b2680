"""Saved policies of episodes: the parameters that `metarl/acting` reads, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from metarl.acting.families import ChosenActions, Family, GaussianActions, SquashedActions
from metarl.deployment import belief_file, folder, mlp_file, off_policy_file, recurrent_file, spaces
from metarl.deployment.layers_file import demand, finite, float32
from metarl.deployment.policy_kind import Found, Kind
from metarl.envs.gym.images import image_shape
from metarl.envs.gym.spaces import flat_actions, flat_observations
from metarl.sampling.draws import KINDS as NOISES

if TYPE_CHECKING:
    from metarl.deployment.policy import Interface

KINDS = (mlp_file.KIND, recurrent_file.KIND, off_policy_file.KIND, belief_file.KIND)
"""Kinds of policies that can be saved."""


def kind_of(acting: Any) -> Kind | None:
    """Returns the kind of a policy; None for one of a user's own, which cannot be saved."""
    return next((kind for kind in KINDS if isinstance(acting, kind.acting)), None)


def write(
    path: Path, kind: Kind, acting: Any, interface: Interface, facts: Mapping[str, Any]
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
    kind.put(acting, document, tensors)
    return folder.write(path, {"kind": kind.name, **document}, tensors)


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


def restored(saved: folder.Saved, path: Path) -> tuple[Any, dict[str, Any], dict[str, Any]]:
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


def _restored(saved: folder.Saved, place: Path) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    document, tensors = saved
    seen = spaces.from_json(document["observation_space"], str(place))
    acted = spaces.from_json(document["action_space"], str(place))
    noise, width = document["noise"]
    told, facts = float32(tensors["told"], 1), document["made_from"]
    action_space = flat_actions(acted, str(place))
    family, outputs = _family(document, tensors, action_space)
    codes = sum(family.options) if isinstance(family, ChosenActions) else len_of(action_space)
    demand(noise == family.noise and noise in NOISES and int(width) == codes)
    demand(isinstance(facts, dict))
    obs_dim = flat_observations(seen, str(place)).shape[0] + len(told)
    image = image_shape(seen, str(place))
    kinds = {kind.name: kind for kind in KINDS}
    acting = kinds[document["kind"]].read(
        Found(document, tensors, obs_dim, image, codes, outputs, family)
    )
    interface = {
        "observation_space": seen,
        "action_space": acted,
        "noise": (noise, int(width)),
        "told": told,
    }
    return acting, interface, facts


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
