"""What a policy's action distribution can do, whatever its family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol, TypeVar

from torch import Tensor


class ActionDistribution(Protocol):
    """A NamedTuple of parameters, [..., features] each, hence a pytree.

    Tangents and cotangents of a distribution are distributions of its family.
    """

    noise: ClassVar = "normal"
    """Which draws `sample` turns into actions: "normal" or "gumbel"."""

    def __iter__(self) -> Iterator[Tensor]: ...
    def __getitem__(self, index: Any, /) -> Any: ...
    def sample(self, noise: Tensor) -> Tensor: ...
    def mode(self) -> Tensor: ...
    def log_probs(self, actions: Tensor) -> Tensor: ...
    def kl(self, new: Any) -> Tensor: ...
    def entropy(self) -> Tensor: ...
    def fisher(self, tangent: Any) -> ActionDistribution: ...
    def score(self, actions: Tensor) -> ActionDistribution: ...
    def score_dot(self, actions: Tensor, tangent: Any) -> ActionDistribution: ...
    def scaled(self, factor: Tensor) -> ActionDistribution: ...


Family = TypeVar("Family", bound=ActionDistribution)


def each(change: Callable[[Tensor], Tensor], distribution: Family) -> Family:
    """The distribution of the same family with `change` done to every parameter."""
    family: Any = type(distribution)
    return family(*map(change, distribution))
