"""A convolutional network as a function of its parameters.

Each block is a 3x3 convolution, batch normalisation if configured, an activation and a 2x2
max-pooling; a linear layer follows (arXiv:1606.04080, section 4.1; arXiv:1703.03400, section 5.2).
With strides of 2 in the convolutions there is no pooling (arXiv:1703.03400, section 5.2, Omniglot).
As in `mlp.py`, each parameter is shared by all tasks or has a leading K, and weights are matrices:
a convolution's is `[channels, 9 * channels before]`, one filter a row.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.config.settings import NetworkConfig
from metarl.networks.mlp import activated, initial_weight, linear, select_tasks
from metarl.networks.torso import convolved
from metarl.types import Params

SIDE = 3
"""Height and width of a filter, in pixels."""
CACHE_BYTES = 8 << 20
"""Largest output of one block that a CPU computes at a time; larger ones do not fit its cache.
16 tasks of 25 images of 28 x 28, with 64 channels, take 1.5 times as long without this limit."""
EPSILON = 1e-5
"""Added to the variance in batch normalisation."""


class Conv:
    """Maps images to output vectors. Activations are [N, K, channels, height, width] inside: K and
    channels flatten to one axis for grouped convolution and normalisation by task, N and K to one
    for shared convolution and pooling, all without a copy."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int, config: NetworkConfig):
        """Builds a block for each entry of `config.hidden`, the block's number of channels.

        `input_shape` is that of an image: channels, height, width.
        """
        self.config, self.outputs = config, outputs
        self.blocks = len(config.hidden)
        self.layers = self.blocks + 1
        self.channels = (input_shape[0], *config.hidden)
        self.sides = [input_shape[1:]]
        """Height and width before each block and after the last one."""
        for _ in config.hidden:
            height, width = self.sides[-1]
            halve = 1 if min(height, width) == 1 else 2
            up = halve - 1 if config.strides else 0  # a stride keeps the last row of an odd number
            self.sides.append(((height + up) // halve, (width + up) // halve))
        self.filtered = self.sides[1:] if config.strides else self.sides[:-1]
        """Height and width after each block's convolution."""

    @property
    def multiplications(self) -> int:
        """Returns how many there are in the prediction of one example."""
        blocks = zip(pairwise(self.channels), self.filtered, strict=True)
        filters = sum(SIDE**2 * math.prod((*channels, *side)) for channels, side in blocks)
        return filters + self.outputs * self.channels[-1] * math.prod(self.sides[-1])

    def init(self, rng: np.random.Generator) -> Params:
        """Returns initial parameters without a task axis: weights by `config.init` (a filter's
        fan-in is 9 * channels), biases and shifts zero, scales one."""
        height, width = self.sides[-1]
        sizes = [
            *((after, before * SIDE**2) for before, after in pairwise(self.channels)),
            (self.outputs, self.channels[-1] * height * width),
        ]
        params: Params = {}
        for i, (rows, columns) in enumerate(sizes):
            params[f"layer{i}.weight"] = initial_weight(rng, rows, columns, self.config.init)
            params[f"layer{i}.bias"] = torch.zeros(rows)
            if self.config.batch_norm and i < self.blocks:
                params[f"norm{i}.scale"] = torch.ones(rows)
                params[f"norm{i}.shift"] = torch.zeros(rows)
        return params

    def __call__(self, params: Params, inputs: Tensor) -> Tensor:
        """Returns [K, N, outputs] for images [K, N, channels, height, width]."""
        last = f"layer{self.blocks}"
        features = self.features(params, inputs)
        return linear(features, params[f"{last}.weight"], params[f"{last}.bias"])

    def features(self, params: Params, inputs: Tensor) -> Tensor:
        """Returns the inputs of the last layer, [K, N, features]."""
        parts = [
            self._together(select_tasks(params, rows), inputs[rows]) for rows in self._parts(inputs)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _parts(self, inputs: Tensor) -> list[slice]:
        """Returns slices of tasks to compute at a time; one slice of all tasks on a GPU."""
        num_tasks = inputs.shape[0]
        if inputs.device.type != "cpu" or not self.blocks:
            return [slice(num_tasks)]
        outputs = zip(self.channels[1:], self.filtered, strict=True)
        largest = max(channels * height * width for channels, (height, width) in outputs)
        size = max(1, CACHE_BYTES // (inputs.shape[1] * largest * inputs.element_size()))
        return [slice(start, start + size) for start in range(0, num_tasks, size)]

    def _together(self, params: Params, inputs: Tensor) -> Tensor:
        x = inputs.transpose(0, 1)
        for i in range(self.blocks):
            halved = self.sides[i] != self.sides[i + 1]
            stride = 2 if halved and self.config.strides else 1
            x = convolved(x, params[f"layer{i}.weight"], params[f"layer{i}.bias"], SIDE, stride, 1)
            if self.config.batch_norm:
                x = normalised(x, params[f"norm{i}.scale"], params[f"norm{i}.shift"])
            if halved and not self.config.strides:
                # Before the activation, which is monotone: the same values, a quarter of the work.
                x = F.max_pool2d(x.flatten(0, 1), 2).unflatten(0, x.shape[:2])
            x = activated(x, self.config.activation)
        return x.flatten(2).transpose(0, 1)


def normalised(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Normalises x [N, K, channels, ...] over each task's examples and pixels, then applies `scale`
    and `shift`, [channels] shared or [K, channels].

    Batch normalisation (arXiv:1502.03167, Algorithm 1). Training and evaluation both use only the
    statistics of the given examples, as in arXiv:1703.03400; none are kept.
    """
    tasks, channels = x.shape[1:3]
    scale, shift = (each.expand(tasks, channels).flatten() for each in (scale, shift))
    found = F.batch_norm(x.flatten(1, 2), None, None, scale, shift, training=True, eps=EPSILON)
    return found.unflatten(1, (tasks, channels))
