"""Dictionaries of tensors as single vectors, and back."""

from __future__ import annotations

import torch
from torch import Tensor


def ravel(params: dict[str, Tensor]) -> Tensor:
    """All entries in the dictionary's order, one float64 vector."""
    return torch.cat([p.reshape(-1).double() for p in params.values()])


def unravel(vector: Tensor, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `ravel`, in the shapes and dtypes of `like`."""
    sizes = [p.numel() for p in like.values()]
    parts = vector.split(sizes)
    return {
        name: part.reshape(p.shape).to(p.dtype)
        for (name, p), part in zip(like.items(), parts, strict=True)
    }
