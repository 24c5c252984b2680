"""The convolutions that read image observations: their number, sizes and strides, by the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from metarl.errors import UserError

if TYPE_CHECKING:
    from metarl.config.settings import PolicyConfig

SMALLEST = 3
"""Pixels along a side of the smallest filter, and of the smallest image that is convolved."""
SIZES = ((40, 8, 4), (12, 4, 2), (SMALLEST, SMALLEST, 1))
"""Shortest side of an image, and the side and stride of its filters, in pixels. The first two rows
are the filters of arXiv:1312.5602, section 4.1, at 84 x 84; the last is for grids of symbols."""


class Convolution(NamedTuple):
    """A convolution without padding."""

    before: tuple[int, int, int]
    """Channels, height and width of its input."""
    after: tuple[int, int, int]
    side: int
    """Pixels along a side of its filters."""
    stride: int

    @property
    def patch(self) -> int:
        """Numbers that a filter reads."""
        return self.before[0] * self.side**2

    @property
    def places(self) -> int:
        """Places where it is evaluated."""
        return self.after[1] * self.after[2]


def convolution(image: tuple[int, int, int], channels: int) -> Convolution:
    """Returns the convolution that reads an image (channels, height, width)."""
    _, height, width = image
    shortest = min(height, width)
    side, stride = next((s[1:] for s in SIZES if shortest >= s[0]), (shortest, 1))
    after = channels, (height - side) // stride + 1, (width - side) // stride + 1
    return Convolution(image, after, side, stride)


def convolutions(spec: Any, policy: PolicyConfig) -> tuple[Convolution, ...]:
    """Returns the convolutions of a policy, in order; none where it reads observations as vectors.

    Args:
        spec: an EnvSpec; its `image` is (channels, height, width) or None.
        policy: the settings of the network.

    Raises:
        UserError: where `policy.torso` is `conv` and there is no image, or too small a one.
    """
    image, asked = getattr(spec, "image", None), policy.torso
    small = image is not None and min(image[1:]) < SMALLEST
    if asked == "conv" and (image is None or small):
        why = "are no image" if image is None else f"are images of {image[1]} x {image[2]} pixels"
        raise UserError(
            f"agent.policy.torso is 'conv', and the observations of {spec.name} {why}; filters "
            f"have {SMALLEST} x {SMALLEST} or more\n  use --agent.policy.torso auto"
        )
    if image is None or small or asked == "flat":
        return ()
    found: list[Convolution] = []
    for channels in policy.channels:
        found.append(convolution(found[-1].after if found else image, channels))
    return tuple(found)


def width(spec: Any, policy: PolicyConfig) -> int:
    """Returns how many numbers of an observation enter the first layer behind the convolutions."""
    found = convolutions(spec, policy)
    return features(found) + spec.obs_dim - pixels(found)


def pixels(found: tuple[Convolution, ...]) -> int:
    """Returns the numbers that the first of these convolutions reads; 0 if there is none."""
    return _numbers(found[0].before) if found else 0


def features(found: tuple[Convolution, ...]) -> int:
    """Returns the numbers that the last of these convolutions gives; 0 if there is none."""
    return _numbers(found[-1].after) if found else 0


def _numbers(shape: tuple[int, int, int]) -> int:
    return shape[0] * shape[1] * shape[2]
