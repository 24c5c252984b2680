"""Converts observations to vectors, and vectors to actions, for gymnasium's spaces.

The vector of an observation with an image (`images.py`) begins with the pixels, channel by channel
and scaled from their bounds to [0, 1]. Everything else is as gymnasium flattens it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from operator import getitem
from typing import Any, NoReturn

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from gymnasium.spaces.utils import flatten, flatten_space

from metarl.envs.gym.images import Image, parted, without_image
from metarl.errors import UserError
from metarl.sampling.rows import RowError
from metarl.text import shown

KINDS = (Box, Discrete, MultiDiscrete, MultiBinary, Dict, Tuple)
OBSERVED = "Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple"
ACTED = "Box (of floats), Discrete or MultiDiscrete"


def flat_observations(space: Space, name: str) -> Box:
    """Returns the space of the vectors that `observer` makes, [obs_dim] float32.

    Raises:
        UserError: for a space, or one inside it, without vectors of a fixed length.
    """
    _refuse_other_observations(space, name)
    image, rest = parted(space, name)
    if image is None:
        flat = flatten_space(space)
        assert isinstance(flat, Box)
        return _flat_box(flat)
    pixels = prod(image.shape)
    flat = flatten_space(rest) if rest is not None else Box(0.0, 1.0, (0,), np.float32)
    assert isinstance(flat, Box)
    zero, one = np.zeros(pixels), np.ones(pixels)
    low, high = np.append(zero, flat.low), np.append(one, flat.high)
    return _flat_box(Box(low, high, dtype=np.float64))


def _flat_box(box: Box) -> Box:
    with np.errstate(over="ignore"):  # a bound too large for float32 becomes infinite
        low, high = box.low.astype(np.float32), box.high.astype(np.float32)
    return Box(low.reshape(-1), high.reshape(-1), dtype=np.float32)


def _refuse_other_observations(space: Space, name: str, beside: Sequence[str] = ()) -> None:
    """Refuses a space without vectors; `beside` are the keys of a Dict that could stay."""
    inner: Sequence[tuple[Space, Sequence[str]]] = ()
    if isinstance(space, Dict):
        kept = [key for key, one in space.spaces.items() if isinstance(one, KINDS)]
        inner = [(one, kept) for one in space.spaces.values()]
    elif isinstance(space, Tuple):
        inner = [(one, ()) for one in space.spaces]
    elif not isinstance(space, KINDS):
        wrapper = f"FilterObservation(env, {shown(list(beside))})"
        remedy = f"\nleave it out: gymnasium.wrappers.{wrapper}" if beside else ""
        if type(space).__name__ == "MissionSpace":  # MiniGrid's, a text
            remedy = "\nwrap the environment: metarl.minigrid_cells(env) leaves it out"
        raise UserError(f"{name}: no agent can observe {space}; use {OBSERVED}{remedy}")
    for one, others in inner:
        _refuse_other_observations(one, name, others)


def observer(space: Space) -> Callable[[Any], np.ndarray]:
    """Returns a function from an observation to its vector.

    The function raises RowError for an observation of another kind, shape or type than `space`. It
    does not check that numbers are finite."""
    image, rest = parted(space, "observation")
    if image is not None:
        return _image_observer(space, image, rest)
    if isinstance(space, Box):
        shape, flat = space.shape, len(space.shape) == 1

        def observe_box(obs: Any) -> np.ndarray:
            if type(obs) is not np.ndarray:
                obs = np.asarray(obs) if isinstance(obs, np.generic) else _not_in(space, obs)
            if obs.shape != shape or obs.dtype.kind not in "fiub":
                _not_in(space, obs)
            return obs if flat else obs.reshape(-1)

        return observe_box

    def observe(obs: Any) -> np.ndarray:
        if not _belongs(space, obs):
            _not_in(space, obs)
        return np.asarray(flatten(space, obs))

    return observe


def _image_observer(space: Space, image: Image, rest: Space | None) -> Callable[[Any], np.ndarray]:
    """Returns `observer` of a space with an image."""

    def observe(obs: Any) -> np.ndarray:
        if not _belongs(space, obs):
            _not_in(space, obs)
        pixels = image.pixels(np.asarray(reduce(getitem, image.path, obs)))
        if rest is None:
            return pixels
        others: Any = flatten(rest, without_image(rest, space, obs))
        return np.append(pixels, others)

    return observe


def _belongs(space: Space, obs: Any) -> bool:
    """Returns whether `obs` is in `space`, ignoring bounds and precision of each Box."""
    if isinstance(space, Dict):
        inside = isinstance(obs, dict) and obs.keys() == space.spaces.keys()
        return inside and all(_belongs(space.spaces[key], obs[key]) for key in space.spaces)
    if isinstance(space, Tuple):
        inside = isinstance(obs, tuple) and len(obs) == len(space.spaces)
        return inside and all(map(_belongs, space.spaces, obs))
    if isinstance(space, Box):
        found = np.asarray(obs)
        return found.shape == space.shape and found.dtype.kind in "fiub"
    return bool(space.contains(obs))


def _not_in(space: Space, obs: Any) -> NoReturn:
    is_what = f"{obs!r:.60} ({type(obs).__name__})"
    if isinstance(obs, np.ndarray):
        is_what = f"an array of shape {obs.shape} and {obs.dtype}"
    raise RowError("observation", f"the observation is {is_what}, not in {space}")


def flat_actions(space: Space, name: str) -> Box | Discrete | MultiDiscrete:
    """Returns the policy's action space: a flat Box, or discrete actions that start at zero.

    Raises:
        UserError: for a space without a policy distribution.
    """
    if isinstance(space, Box) and space.dtype.kind == "f":
        return _flat_box(space)
    if isinstance(space, Discrete):
        return Discrete(int(space.n))
    if isinstance(space, MultiDiscrete):
        return MultiDiscrete(space.nvec.reshape(-1))
    raise UserError(f"{name}: no policy can act in {space}; use {ACTED}")


def decoder(space: Space) -> Callable[[np.ndarray], Sequence[Any] | np.ndarray]:
    """Returns a function from actions [n, act_dim] to n actions of `space`, clipped to a Box."""
    if isinstance(space, Box):
        low, high = space.low.reshape(-1), space.high.reshape(-1)

        def clipped(actions: np.ndarray) -> np.ndarray:
            inside = np.clip(actions, low, high).astype(space.dtype, copy=False)
            return inside.reshape(len(actions), *space.shape)

        return clipped
    start = np.asarray(space.start)  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(space, Discrete):  # gymnasium checks Python's int a microsecond faster
        return lambda actions: (actions[:, 0] + start).tolist()
    assert isinstance(space, MultiDiscrete)
    shape, dtype = space.shape, space.dtype
    return lambda actions: (actions.reshape(-1, *shape) + start).astype(dtype)
