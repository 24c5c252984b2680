"""Interface of a policy's action distribution, the same for every family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol, TypeVar

from torch import Tensor


class Curvature(Protocol):
    """Second derivative in a distribution's parameters, a NamedTuple of coefficients."""

    def __iter__(self) -> Iterator[Tensor]: ...
    def times(self, tangent: Any) -> ActionDistribution: ...


class ActionDistribution(Protocol):
    """NamedTuple of a distribution's parameters, [..., features] each; a pytree to torch.func.

    Tangents and cotangents of a distribution are distributions of the same family.
    """

    noise: ClassVar = "normal"
    """The kind of noise that `sample` takes: "normal" or "gumbel"."""

    def __iter__(self) -> Iterator[Tensor]: ...
    def __getitem__(self, index: Any, /) -> Any: ...
    def sample(self, noise: Tensor) -> Tensor: ...
    def log_probs(self, actions: Tensor) -> Tensor: ...
    def kl(self, new: Any) -> Tensor: ...
    def entropy(self) -> Tensor: ...
    def fisher(self, tangent: Any, factor: Tensor) -> ActionDistribution: ...
    def score(self, actions: Tensor, factor: Tensor) -> ActionDistribution: ...
    def score_curvature(self, actions: Tensor, factor: Tensor) -> Curvature: ...


Tensors = TypeVar("Tensors", bound=ActionDistribution | Curvature)


def each(change: Callable[[Tensor], Tensor], tensors: Tensors) -> Tensors:
    """Applies `change` to every tensor of a distribution or curvature."""
    family: Any = type(tensors)
    return family(*map(change, tensors))
