"""Converts observations to vectors, and vectors to actions, for gymnasium's spaces.

An observation is an image, or a Dict or a Tuple with one, as `image_of` says. Its vector begins with
the pixels, channel by channel and scaled from their bounds to [0, 1]; other numbers follow as
gymnasium flattens them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple, NoReturn

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Text, Tuple
from gymnasium.spaces.utils import flatten, flatten_space

from metarl.errors import UserError
from metarl.sampling.rows import RowError

OBSERVED = "Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple"
TEXT = "\nleave the text out, as by gymnasium.wrappers.FilterObservation(env, ['image', 'direction'])"
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


class Image(NamedTuple):
    """An image in an observation."""

    path: tuple[Any, ...]
    """Keys of the Dicts and Tuples that it is in; none where it is the whole observation."""
    shape: tuple[int, int, int]
    """Channels, height, width."""
    last: bool
    """Whether an observation has the channels behind height and width."""
    low: np.ndarray
    scale: np.ndarray
    """A pixel is (number - low) * scale, both with an observation's axes."""

    def pixels(self, found: np.ndarray) -> np.ndarray:
        """Returns the pixels in the vector's order, [channels height width] float32."""
        scaled = (found - self.low) * self.scale
        if self.last and scaled.ndim == len(self.shape):
            scaled = scaled.transpose(2, 0, 1)
        return scaled.reshape(-1)

    def __str__(self) -> str:
        return " x ".join(map(str, self.shape[1:])) + f" pixels in {self.shape[0]} channels"


WIDEST = 65_535
"""Largest range of numbers that count as pixels: that of 16 bits."""


def image_of(space: Space) -> Image | None:
    """Returns the image that a space without others in it is; None for a table of numbers.

    An image is a Box with three sides whose bounds are finite, and at most 65,535 apart, a
    MultiBinary with three sides, or a Box of uint8 with two, which has one channel. The smaller
    one of the first and the last side is the channels; where they are equal, the last.
    """
    if isinstance(space, MultiBinary) and len(space.shape) == 3:
        low, high = np.zeros(space.shape, np.float32), np.ones(space.shape, np.float32)
    elif isinstance(space, Box) and (
        len(space.shape) == 3 or (len(space.shape) == 2 and space.dtype == np.uint8)
    ):
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
    else:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        range = high - low
    if not (range <= WIDEST).all():  # of bounds that are infinite too
        return None
    sides, last = space.shape, True
    if len(sides) == 2:
        shape = 1, sides[0], sides[1]
    elif last := sides[2] <= sides[0]:
        shape = sides[2], sides[0], sides[1]
    else:
        shape = sides[0], sides[1], sides[2]
    scale = np.float32(1.0) / np.where(range > 0, range, np.float32(1.0))
    return Image((), shape, last, _alike(low), _alike(scale))


def _alike(x: np.ndarray) -> np.ndarray:
    """Returns one number in place of equal ones, which are faster to work with."""
    return x.reshape(-1)[0] if (x == x.flat[0]).all() else x


def parted(space: Space, name: str) -> tuple[Image | None, Space | None]:
    """Returns the image in a space, and the space of everything else in it, None for nothing.

    Raises:
        UserError: for two images.
    """
    if (image := image_of(space)) is not None:
        return image, None
    if isinstance(space, Dict):
        inside = list(space.spaces.items())
    elif isinstance(space, Tuple):
        inside = list(enumerate(space.spaces))
    else:
        return None, space
    found, rest = [], []
    for key, one in inside:
        image, other = parted(one, name)
        if image is not None:
            found.append(image._replace(path=(key, *image.path)))
        if other is not None:
            rest.append((key, other))
    if len(found) > 1:
        raise UserError(
            f"{name}: the observation has two images, {found[0].path[-1]!r} ({found[0]}) and "
            f"{found[1].path[-1]!r} ({found[1]}), and networks read one\n"
            "leave one out by gymnasium.wrappers.FilterObservation, or join them as channels"
        )
    if not found or not rest:
        return (found[0] if found else None), (space if not found else None)
    kind = Dict(dict(rest)) if isinstance(space, Dict) else Tuple([other for _, other in rest])
    return found[0], kind


def image_shape(space: Space, name: str) -> tuple[int, int, int] | None:
    """Returns channels, height and width of the image in a space, for `EnvSpec.image`."""
    image, _ = parted(space, name)
    return None if image is None else image.shape


def _flat_box(box: Box) -> Box:
    with np.errstate(over="ignore"):  # a bound too large for float32 becomes infinite
        low, high = box.low.astype(np.float32), box.high.astype(np.float32)
    return Box(low.reshape(-1), high.reshape(-1), dtype=np.float32)


def _refuse_other_observations(space: Space, name: str) -> None:
    inner: Sequence[Space] = ()
    if isinstance(space, Dict):
        inner = list(space.spaces.values())
    elif isinstance(space, Tuple):
        inner = space.spaces
    elif not isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary):
        text = isinstance(space, Text) or "Mission" in type(space).__name__
        remedy = TEXT if text else ""
        raise UserError(f"{name}: no agent can observe {space}; use {OBSERVED}{remedy}")
    for one in inner:
        _refuse_other_observations(one, name)


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


def _image_observer(
    space: Space, image: Image, rest: Space | None
) -> Callable[[Any], np.ndarray]:
    """Returns `observer` of a space with an image."""

    def observe(obs: Any) -> np.ndarray:
        if not _belongs(space, obs):
            _not_in(space, obs)
        found = obs
        for key in image.path:
            found = found[key]
        pixels = image.pixels(np.asarray(found))
        if rest is None:
            return pixels
        return np.append(pixels, flatten(rest, _without_image(rest, space, obs)))

    return observe


def _without_image(rest: Space, space: Space, obs: Any) -> Any:
    """Returns the part of an observation that `rest`, made of `space`, is the space of."""
    if isinstance(space, Dict) and isinstance(rest, Dict):
        return {
            key: _without_image(one, space.spaces[key], obs[key])
            for key, one in rest.spaces.items()
        }
    if isinstance(space, Tuple) and isinstance(rest, Tuple):
        kept = [i for i, one in enumerate(space.spaces) if parted(one, "")[1] is not None]
        return tuple(
            _without_image(one, space.spaces[i], obs[i])
            for i, one in zip(kept, rest.spaces, strict=True)
        )
    return obs


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
