"""Whether this processor's products in bfloat16 are right: torch's libraries were wrong before.

With OMP_DYNAMIC=TRUE batched products came out wrong on processors with instructions for bfloat16.
Conjugate gradient then ended at once, and nothing was learned. So the products of a policy's
layers are compared with float32 before the first update.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import pairwise

import torch
from torch import Tensor

from metarl import parallel
from metarl.networks.linearised import add_product, over_samples_product
from metarl.networks.mlp import linear

TASKS, SAMPLES = 3, 200
"""Shape of the compared products."""
LARGEST_ERROR = 0.1
"""Error, as a share of a result's norm, from which products count as wrong. Rounding to bfloat16
alone makes 0.003."""
ON = ("1", "true", "yes", "on")


def note(dtype: torch.dtype, device: torch.device, sizes: Sequence[int]) -> str:
    """Returns a line for the user where products are made in float32 instead; else nothing.

    `sizes` are those of the policy's layers, from the observation on.
    """
    if usable(dtype, device, sizes) == dtype:
        return ""
    cause = "a fault of torch or of this processor"
    if os.environ.get("OMP_DYNAMIC", "").strip().lower() in ON:
        cause = "OMP_DYNAMIC is on and torch was imported before metarl; unset it"
    return f"products in bfloat16 are wrong here ({cause}): the update uses float32"


def usable(dtype: torch.dtype, device: torch.device, sizes: Sequence[int]) -> torch.dtype:
    """Returns `dtype`, or float32 where `dtype` is bfloat16 and this processor gets it wrong."""
    if dtype != torch.bfloat16 or device.type != "cpu":
        return dtype
    return dtype if _largest_error(tuple(sizes)) < LARGEST_ERROR else torch.float32


@cache
def _largest_error(sizes: tuple[int, ...]) -> float:
    """Returns the largest error of a product, relative to the result; NaN counts as infinite.

    Products are made with the threads that torch has here, and as in an update side by side.
    """
    here = _errors(sizes, 0)
    parts = range(max(2, min(parallel.granted(), 4)))
    there = parallel.side_by_side(partial(_errors, sizes), parts)
    found = torch.tensor([here, *there]).nan_to_num(torch.inf, torch.inf, torch.inf)
    return float(found.max())


@torch.no_grad()
def _errors(sizes: tuple[int, ...], seed: int) -> float:
    rng = torch.Generator().manual_seed(seed)
    errors = [
        (found.float() - exact).norm() / exact.norm()
        for shape in pairwise(sizes)
        for found, exact in zip(*_products(*shape, rng), strict=True)
    ]
    return float(torch.stack(errors).nan_to_num(torch.inf, torch.inf, torch.inf).max())


def _products(width: int, outputs: int, rng: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
    """Returns the products of a layer in bfloat16, and of the same rounded factors in float32."""
    shapes = (TASKS, SAMPLES, width), (TASKS, SAMPLES, outputs), (TASKS, outputs, width)
    factors = [torch.randn(shape, generator=rng).bfloat16() for shape in shapes]
    return list(_of_layer(*factors)), list(_of_layer(*(x.float() for x in factors)))


def _of_layer(x: Tensor, delta: Tensor, weights: Tensor) -> Iterator[Tensor]:
    """Yields the kinds of products that a Hessian is made of."""
    yield linear(x, weights, weights[..., 0])
    yield linear(x, weights[0], weights[0, :, 0])
    yield torch.matmul(delta, weights)
    yield torch.matmul(delta, weights[0])
    yield add_product(delta.clone(), x, weights.mT)
    yield add_product(delta.clone(), x, weights[0].mT)
    yield over_samples_product(delta, x)
    yield over_samples_product(delta, x, weights.clone())
