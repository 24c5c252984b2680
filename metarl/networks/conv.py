"""The convolutional network as a function of its parameters: blocks of a 3x3 convolution, a
normalisation where asked for, an activation and a 2x2 maximum, then a linear layer.

The architecture of arXiv:1606.04080, section 4.1, and arXiv:1703.03400, section 5.2. Parameters are
shared by all tasks or have a leading K, each for itself, as in `mlp.py`. A filter is a row of a
matrix `[channels, 9 * channels before]`, so that a weight is a matrix here too.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.config.settings_few_shot import NetworkConfig
from metarl.errors import UserError
from metarl.networks.mlp import activated, initial_weight, is_adapted, linear, select_tasks
from metarl.types import Params

SIDE = 3
"""Of a filter."""
CACHE_BYTES = 8 << 20
"""Size of one block's output that is worked on at a time on a processor. Larger ones leave its
cache: 16 tasks of 25 images of 28 x 28, with 64 channels, take half as long again all at once."""
EPSILON = 1e-5
"""Added to a variance."""


class Conv:
    """Images to numbers. Activations are [N, K, channels, height, width] inside: with N first, its
    neighbours K and channels are one axis to a grouped convolution and to a normalisation by task,
    and N and K one axis to a shared convolution and to pooling, all without a copy."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int, config: NetworkConfig):
        """`config.hidden` are the channels of each block.

        Raises:
            UserError: for inputs that are no images.
        """
        if len(input_shape) != 3:
            raise UserError(
                f"a convolution takes images (channels, height, width), not examples of shape "
                f"{input_shape}; choose agent.network.kind mlp"
            )
        self.config, self.outputs = config, outputs
        self.blocks = len(config.hidden)
        self.layers = self.blocks + 1
        self.channels = (input_shape[0], *config.hidden)
        self.sides = [input_shape[1:]]
        """Height and width before each block, and after the last."""
        for _ in config.hidden:
            height, width = self.sides[-1]
            halve = 1 if min(height, width) == 1 else 2
            self.sides.append((height // halve, width // halve))

    def init(self, rng: np.random.Generator) -> Params:
        """Matrices by `config.init`, a filter's 9 * channels being what goes into it; biases zero,
        normalised channels with scale one and shift zero. No task axis."""
        height, width = self.sides[-1]
        sizes = [
            *((after, before * SIDE**2) for before, after in pairwise(self.channels)),
            (self.outputs, self.channels[-1] * height * width),
        ]
        params: Params = {}
        for i, (rows, columns) in enumerate(sizes):
            weight = initial_weight(rng, rows, columns, self.config.init)
            params[f"layer{i}.weight"] = torch.from_numpy(weight).float()
            params[f"layer{i}.bias"] = torch.zeros(rows)
            if self.config.batch_norm and i < self.blocks:
                params[f"norm{i}.scale"] = torch.ones(rows)
                params[f"norm{i}.shift"] = torch.zeros(rows)
        return params

    def __call__(self, params: Params, inputs: Tensor) -> Tensor:
        """[K, N, outputs] at images [K, N, channels, height, width]; `params` may hold more."""
        parts = [
            self._together(select_tasks(params, rows), inputs[rows]) for rows in self._parts(inputs)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _parts(self, inputs: Tensor) -> list[slice]:
        """Neighbouring tasks that are worked on together; all of them on a GPU."""
        num_tasks = inputs.shape[0]
        if inputs.device.type != "cpu" or not self.blocks:
            return [slice(num_tasks)]
        outputs = zip(self.channels[1:], self.sides[:-1], strict=True)
        largest = max(channels * height * width for channels, (height, width) in outputs)
        size = max(1, CACHE_BYTES // (inputs.shape[1] * largest * inputs.element_size()))
        return [slice(start, start + size) for start in range(0, num_tasks, size)]

    def _together(self, params: Params, inputs: Tensor) -> Tensor:
        x = inputs.transpose(0, 1)
        for i in range(self.blocks):
            x = convolved(x, params[f"layer{i}.weight"], params[f"layer{i}.bias"])
            if self.config.batch_norm:
                x = normalised(x, params[f"norm{i}.scale"], params[f"norm{i}.shift"])
            x = activated(x, self.config.activation)
            if self.sides[i] != self.sides[i + 1]:
                x = F.max_pool2d(x.flatten(0, 1), 2).unflatten(0, x.shape[:2])
        i = self.blocks
        features = x.flatten(2).transpose(0, 1)  # [K, N, features]
        return linear(features, params[f"layer{i}.weight"], params[f"layer{i}.bias"])


def convolved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Images x [N, K, channels, ...] by filters [out, 9 * channels] shared, or [K, out, ...]; the
    images keep their size."""
    filters = weight.flatten(0, -2).unflatten(-1, (-1, SIDE, SIDE))
    if not is_adapted("weight", weight):
        return F.conv2d(x.flatten(0, 1), filters, bias, padding=1).unflatten(0, x.shape[:2])
    tasks = weight.shape[0]
    found = F.conv2d(x.flatten(1, 2), filters, bias.flatten(), padding=1, groups=tasks)
    return found.unflatten(1, (tasks, -1))


def normalised(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Channels of x [N, K, channels, ...] with mean 0 and variance 1 over each task's examples and
    pixels, then times `scale`, plus `shift`: [channels] shared, or [K, channels].

    Batch normalisation (arXiv:1502.03167, Algorithm 1) by the examples at hand alone, in training
    and after it, as arXiv:1703.03400 has it: no statistics are kept.
    """
    tasks, channels = x.shape[1:3]
    scale, shift = (each.expand(tasks, channels).flatten() for each in (scale, shift))
    found = F.batch_norm(x.flatten(1, 2), None, None, scale, shift, training=True, eps=EPSILON)
    return found.unflatten(1, (tasks, channels))
