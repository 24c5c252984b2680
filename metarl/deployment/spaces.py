"""Gymnasium's spaces as JSON, for saved policies, and the comparison of an environment's with a
run's."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple

from metarl.envs.gym.images import image_of, image_shape
from metarl.envs.gym.spaces import flat_actions, flat_observations
from metarl.errors import UserError
from metarl.text import shown
from metarl.types import EnvSpec, TaskDistribution

MOST_NUMBERS = 1 << 24
"""Numbers of an observation or an action."""
MOST_INSIDE = 1000
"""Spaces in a Dict or a Tuple."""


def check_same_spaces(env: gymnasium.Env, spec: EnvSpec, told: int = 0) -> None:
    """Checks that an agent for `spec` can act in an environment.

    Args:
        env: the environment.
        spec: the run's.
        told: numbers of the task at the end of the agent's observations, which the environment
            does not give.

    Raises:
        UserError: for other spaces; it names both.
    """
    name = type(env.unwrapped).__name__
    seen = flat_observations(env.observation_space, name)
    acted = flat_actions(env.action_space, name)
    width = spec.obs_dim - told
    if seen.shape != (width,):
        raise UserError(
            f"{name} gives observations of {seen.shape[0]} numbers ({shown(env.observation_space)})"
            f", and the run learned {spec.name}, with {width}\n"
            "wrap the environment so that it gives what the run saw, or load a run that was "
            "trained with such observations"
        )
    image = image_shape(env.observation_space, name)
    if image != spec.image:
        of_env, of_run = (x or "no image" for x in (image, spec.image))
        raise UserError(
            f"{name} has images with channels, height and width {of_env}, and the run learned "
            f"{spec.name}, with {of_run}\nwrap the environment so that it gives what the run saw"
        )
    if acted != spec.action_space:
        raise UserError(
            f"{name} takes actions in {shown(env.action_space)}, and the run learned {spec.name}, "
            f"which takes {shown(spec.action_space)}\n"
            "wrap the environment, as by gymnasium.wrappers.RescaleAction, or load a run that was "
            "trained with such actions"
        )


def spaces_of(distribution: TaskDistribution) -> tuple[Space, Space]:
    """Returns the spaces of a distribution's environments, in their own format."""
    rows = getattr(distribution, "rows", None)
    if rows is not None and hasattr(rows, "observation_space"):
        return rows.observation_space, rows.action_space
    return distribution.spec.observation_space, distribution.spec.action_space


def as_json(space: Space, acted: bool) -> dict[str, Any]:
    """Returns a space for JSON; the bounds of a Box are kept where actions are clipped to them,
    and where they scale pixels.

    Raises:
        UserError: for a Dict whose keys are no text.
    """
    match space:
        case Box():
            found = {"kind": "box", "shape": list(space.shape), "dtype": str(space.dtype)}
            if acted or image_of(space) is not None:
                bounds = {"low": space.low, "high": space.high}
                found |= {name: _numbers(bound) for name, bound in bounds.items()}
            return found
        case Discrete():
            return {"kind": "discrete", "n": int(space.n), "start": int(space.start)}
        case MultiDiscrete():
            start = np.broadcast_to(space.start, space.shape)
            return {"kind": "multidiscrete", "nvec": space.nvec.tolist(), "start": start.tolist()}
        case MultiBinary():
            return {"kind": "multibinary", "shape": list(space.shape)}
        case Tuple():
            return {"kind": "tuple", "spaces": [as_json(x, acted) for x in space.spaces]}
        case Dict():
            for key in space.spaces:
                if not isinstance(key, str):
                    raise UserError(f"the observations have the key {key!r}, which is no text")
            inside = [[key, as_json(x, acted)] for key, x in space.spaces.items()]
            return {"kind": "dict", "spaces": inside}
    raise UserError(f"{space} is no space that metarl acts in")


def _numbers(bound: np.ndarray) -> list[float | str]:
    """Returns numbers for JSON, which has no infinity; one in place of equal ones."""
    bound = bound.reshape(-1)
    bound = bound[:1] if (bound == bound[:1]).all() else bound
    return [x if math.isfinite(x) else str(x) for x in bound.astype(float).ravel().tolist()]


def from_json(document: Any, place: str) -> Space:
    """Returns the space that `as_json` described.

    Raises:
        UserError: for anything else; it names `place`.
    """
    try:
        return _space(document)
    except UserError:
        raise
    except (TypeError, ValueError, KeyError, AssertionError, OverflowError, AttributeError):
        raise UserError(
            f"{place} is damaged: it holds {shown(document)}, no space; save the policy anew"
        ) from None


def _space(document: Mapping[str, Any]) -> Space:
    match document["kind"]:
        case "box":
            shape, dtype = _shape(document["shape"]), np.dtype(str(document["dtype"]))
            if dtype.kind not in "fiub":
                raise ValueError(dtype)
            if "low" in document:
                low, high = (_bound(document[name], shape, dtype) for name in ("low", "high"))
                return Box(low, high, shape, dtype)  # pyright: ignore[reportArgumentType]
            low, high = (-np.inf, np.inf) if dtype.kind == "f" else (0, 1)
            if dtype.kind in "iu":
                low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
            found = Box(low, high, shape, dtype)  # pyright: ignore[reportArgumentType]
            if image_of(found) is not None:
                raise UserError(
                    "this policy was saved by an earlier metarl, which read pixels as plain numbers"
                    "\ntrain and save it anew"
                )
            return found
        case "discrete":
            start = int(document["start"])
            if abs(start) >= 1 << 62:  # an action, start + choice, has 64 bits
                raise ValueError(start)
            return Discrete(_count(document["n"]), start=start)
        case "multidiscrete":
            nvec, start = (np.array(document[name], np.int64) for name in ("nvec", "start"))
            if nvec.sum() > MOST_NUMBERS or (np.abs(start) >= 1 << 62).any():
                raise ValueError(nvec)
            return MultiDiscrete(nvec, start=start)
        case "multibinary":
            shape = _shape(document["shape"])
            return MultiBinary(shape[0] if len(shape) == 1 else shape)
        case "tuple":
            return Tuple([_space(x) for x in _few(document["spaces"])])
        case "dict":
            return Dict(OrderedDict((str(k), _space(x)) for k, x in _few(document["spaces"])))
    raise ValueError(document["kind"])


def _bound(numbers: list[Any], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    found = np.array([float(x) for x in numbers]).astype(dtype)
    return np.full(shape, found[0]) if len(found) == 1 else found.reshape(shape)


def _few(spaces: list[Any]) -> list[Any]:
    if len(spaces) > MOST_INSIDE:
        raise ValueError(len(spaces))
    return spaces


def _count(value: Any) -> int:
    if not 0 < int(value) <= MOST_NUMBERS:
        raise ValueError(value)
    return int(value)


def _shape(value: list[Any]) -> tuple[int, ...]:
    shape = tuple(_count(x) for x in value)
    _count(math.prod(shape))
    return shape
