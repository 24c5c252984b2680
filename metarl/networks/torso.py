"""Convolutions before the layers of an MLP, as functions of their parameters.

A torso reads vectors that begin with an image (`EnvSpec.image`) and returns vectors that begin with
features of it; the other numbers stay. Its weights are matrices `[filters, channels * side * side]`
so that, as in `mlp.py`, each parameter is shared by all tasks or has a leading K.

There are two routes to the same numbers. `Torso` calls torch's convolution, which autograd follows.
`Patches` makes a convolution a layer like any other: its samples are patches of the image. Kept
derivatives by hand (`linearised.py`) use it.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.config import torso as plans
from metarl.config.settings import PolicyConfig
from metarl.config.torso import Convolution
from metarl.types import EnvSpec, Params


class Torso:
    """Maps vectors that begin with an image to vectors that begin with its features.

    Features are in the order height, width, channels. Parameters are `PREFIXconv0.weight`,
    `PREFIXconv0.bias`, ..., in a dict that may hold others too.
    """

    def __init__(self, convolutions: tuple[Convolution, ...], prefix: str):
        self.convolutions = convolutions
        self.names = tuple(f"{prefix}conv{i}" for i in range(len(convolutions)))
        self.pixels, self.features = plans.pixels(convolutions), plans.features(convolutions)

    def width(self, inputs: int) -> int:
        """Returns how many numbers it makes of vectors of `inputs` numbers."""
        return inputs - self.pixels + self.features

    @property
    def widest(self) -> int:
        """Most numbers that one convolution reads or gives for one image, patches apart."""
        sizes = [(c.places * c.patch, prod(c.after)) for c in self.convolutions]
        return max(max(pair) for pair in sizes)

    def __call__(self, params: Params, x: Tensor, activation: str) -> Tensor:
        """Returns [..., N, width] at x [..., N, inputs], activated after each convolution.

        With adapted parameters x is [K, ..., N, inputs].
        """
        layers = [[params[f"{name}.{part}"] for part in ("weight", "bias")] for name in self.names]
        before, own = x.shape[:-1], any(weight.dim() > 2 for weight, _ in layers)
        image = x[..., : self.pixels].reshape(
            before[0] if own else 1, -1, *self.convolutions[0].before
        )
        h = image.transpose(0, 1)  # [N, K, channels, height, width]
        for (weight, bias), plan in zip(layers, self.convolutions, strict=True):
            h = convolved(h, weight, bias, plan.side, plan.stride, padding=0)
            h = h.relu() if activation == "relu" else h.tanh()
        features = h.permute(1, 0, 3, 4, 2).reshape(*before, self.features)
        return torch.cat([features, x[..., self.pixels :]], -1)


def convolved(
    x: Tensor, weight: Tensor, bias: Tensor, side: int, stride: int, padding: int
) -> Tensor:
    """Convolves x [N, K, channels, ...] with filters [out, channels * side * side], shared, or
    [K, out, ...]: all tasks' in one grouped convolution."""
    if x.shape[2] == 1 and x.device.type == "cpu" and weight.dim() == 2:
        # For images of one channel torch's grouped convolution takes a quarter of the time.
        weight, bias = (each.expand(x.shape[1], *each.shape) for each in (weight, bias))
    filters = weight.flatten(0, -2).unflatten(-1, (-1, side, side))
    settings = {"stride": stride, "padding": padding}
    if weight.dim() == 2:
        return F.conv2d(x.flatten(0, 1), filters, bias, **settings).unflatten(0, x.shape[:2])
    tasks = weight.shape[0]
    found = F.conv2d(x.flatten(1, 2), filters, bias.flatten(), groups=tasks, **settings)
    return found.unflatten(1, (tasks, -1))


def torso_of(spec: EnvSpec, config: PolicyConfig, prefix: str = "") -> Torso | None:
    """Returns the torso of a network on a distribution; None where it reads vectors.

    Raises:
        UserError: as `config.torso.convolutions`.
    """
    found = plans.convolutions(spec, config)
    return Torso(found, prefix) if found else None


class Patches(NamedTuple):
    """The arrangement of a convolution's inputs as samples of a layer, one for each place."""

    plan: Convolution

    def of_pixels(self, x: Tensor) -> Tensor:
        """Returns patches [K, N places, patch] of vectors [K, N, inputs] that begin with pixels."""
        channels, height, width = self.plan.before
        image = x[..., : channels * height * width].unflatten(-1, self.plan.before)
        return self._cut(image.permute(0, 1, 3, 4, 2))

    def of_samples(self, h: Tensor) -> Tensor:
        """Returns patches [K, N places, patch] of the outputs [K, N places before, channels] of
        the convolution before."""
        channels, height, width = self.plan.before
        return self._cut(h.reshape(len(h), -1, height, width, channels))

    def _cut(self, image: Tensor) -> Tensor:
        side, stride = self.plan.side, self.plan.stride
        found = image.unfold(2, side, stride).unfold(3, side, stride)
        return found.reshape(len(image), -1, self.plan.patch)

    def transposed(self, patches: Tensor) -> Tensor:
        """Returns the transpose of `of_samples` times patches: each number is added at its pixel,
        [K, N places before, channels]."""
        (channels, height, width), (_, rows, columns) = self.plan.before, self.plan.after
        side, stride = self.plan.side, self.plan.stride
        parts = patches.view(len(patches), -1, rows, columns, channels, side, side)
        found = parts.new_zeros(*parts.shape[:2], height, width, channels)
        for i in range(side):
            down = slice(i, i + stride * (rows - 1) + 1, stride)
            for j in range(side):
                right = slice(j, j + stride * (columns - 1) + 1, stride)
                found[:, :, down, right] += parts[..., i, j]
        return found.view(len(patches), -1, channels)


class Flattened(NamedTuple):
    """The arrangement of the last convolution's outputs as features of each image."""

    places: int
    features: int

    def of_samples(self, h: Tensor) -> Tensor:
        """Returns features [K, N, places channels] of outputs [K, N places, channels]."""
        return h.reshape(len(h), -1, self.features)

    def transposed(self, features: Tensor) -> Tensor:
        """Returns the transpose, which is the inverse."""
        return features.reshape(len(features), -1, self.features // self.places)


def arrangements(torso: Torso) -> tuple[Patches | Flattened, ...]:
    """Returns how the inputs of each convolution, and of the layer behind, come about."""
    last = torso.convolutions[-1]
    return (*map(Patches, torso.convolutions), Flattened(last.places, torso.features))
