"""Images in gymnasium's observations: which part of a space is one, and its pixels in order."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box, Dict, MultiBinary, Space, Tuple

from metarl.config.torso import SMALLEST
from metarl.errors import UserError


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
    MultiBinary with three sides, or a Box of uint8 with two, which has one channel. Channels are
    the first or the last side: the one beside a square if there is one, else the smaller, else the
    last. Height and width are 3 pixels or more: smaller tables hold no filter.
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
    elif last := _channels_last(*sides):
        shape = sides[2], sides[0], sides[1]
    else:
        shape = sides[0], sides[1], sides[2]
    if min(shape[1:]) < SMALLEST:
        return None
    scale = np.float32(1.0) / np.where(range > 0, range, np.float32(1.0))
    return Image((), shape, last, _alike(low), _alike(scale))


def _channels_last(first: int, middle: int, last: int) -> bool:
    if (first == middle) != (middle == last):  # a square, and its channels
        return first == middle
    return last <= first


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


def without_image(rest: Space, space: Space, obs: Any) -> Any:
    """Returns the part of an observation that `rest`, made of `space`, is the space of."""
    if isinstance(space, Dict) and isinstance(rest, Dict):
        return {
            key: without_image(one, space.spaces[key], obs[key]) for key, one in rest.spaces.items()
        }
    if isinstance(space, Tuple) and isinstance(rest, Tuple):
        kept = [i for i, one in enumerate(space.spaces) if parted(one, "")[1] is not None]
        return tuple(
            without_image(one, space.spaces[i], obs[i])
            for i, one in zip(kept, rest.spaces, strict=True)
        )
    return obs
