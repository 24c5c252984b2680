"""Policies of several independent categorical choices, each a `categorical.Categorical`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from metarl.equations.categorical import Categorical, CategoricalCurvature


class MultiCategorical(NamedTuple):
    """D choices; an action is a vector of D indices. `multi_categorical` sets their sizes."""

    logits: Tensor  # [..., sum(nvec)]; adding a constant to one choice's logits changes nothing

    noise = "gumbel"
    """The kind of noise that `sample` takes."""

    nvec = ()
    """Number of options of each of the D choices. It belongs to the class, because `each` and
    torch.func rebuild a distribution from its class and its tensors alone."""

    def choices(self) -> list[Categorical]:
        """Returns the D distributions, with logits [..., n] each."""
        return [Categorical(logits) for logits in self.logits.split(self.nvec, -1)]

    def sample(self, noise: Tensor) -> Tensor:
        """Returns actions [..., D] (int64) from standard Gumbel `noise` [..., sum(nvec)]."""
        pairs = zip(self.choices(), noise.split(self.nvec, -1), strict=True)
        return torch.cat([choice.sample(draws) for choice, draws in pairs], -1)

    def log_probs(self, actions: Tensor) -> Tensor:
        """log p(action), summed over the choices: [...]."""
        return _total(choice.log_probs(index) for choice, index in self._chosen(actions))

    def kl(self, new: MultiCategorical) -> Tensor:
        """KL(self || new), summed over the choices: [...]."""
        pairs = zip(self.choices(), new.choices(), strict=True)
        return _total(choice.kl(other) for choice, other in pairs)

    def fisher(self, tangent: MultiCategorical, factor: Tensor) -> MultiCategorical:
        """Hessian of factor KL(self || new) at new = self times `tangent`, one block a choice."""
        pairs = zip(self.choices(), tangent.choices(), strict=True)
        return type(self)(_logits(choice.fisher(part, factor) for choice, part in pairs))

    def score(self, actions: Tensor, factor: Tensor) -> MultiCategorical:
        """Gradient of factor log p(action) in the logits, [..., sum(nvec)]; `factor` is [...]."""
        parts = (choice.score(index, factor) for choice, index in self._chosen(actions))
        return type(self)(_logits(parts))

    def score_curvature(self, actions: Tensor, factor: Tensor) -> MultiCategoricalCurvature:
        """Hessian of factor log p(action) in the logits; `factor` is [...]."""
        parts = [choice.score_curvature(index, factor) for choice, index in self._chosen(actions)]
        return MultiCategoricalCurvature(torch.cat([part.p for part in parts], -1), parts[0].factor)

    def entropy(self) -> Tensor:
        """Entropy in nats, summed over the choices: [...]."""
        return _total(choice.entropy() for choice in self.choices())

    def _chosen(self, actions: Tensor) -> Iterable[tuple[Categorical, Tensor]]:
        """Pairs each choice with its part of the actions, [..., 1]."""
        return zip(self.choices(), actions.split(1, -1), strict=True)


class MultiCategoricalCurvature(NamedTuple):
    """One `CategoricalCurvature` for each choice; the tangent's `nvec` splits them."""

    p: Tensor  # [..., sum(nvec)]
    factor: Tensor  # [..., 1], the same for all choices

    def times(self, tangent: MultiCategorical) -> MultiCategorical:
        pairs = zip(self.p.split(tangent.nvec, -1), tangent.choices(), strict=True)
        parts = (CategoricalCurvature(p, self.factor).times(part) for p, part in pairs)
        return type(tangent)(_logits(parts))


@cache
def multi_categorical(nvec: tuple[int, ...]) -> type[MultiCategorical]:
    """Returns the class for choices among nvec[0], nvec[1] ... options; equal nvec share it."""
    return type("MultiCategorical", (MultiCategorical,), {"__slots__": (), "nvec": nvec})


def _logits(choices: Iterable[Categorical]) -> Tensor:
    return torch.cat([choice.logits for choice in choices], -1)


def _total(parts: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(parts)).sum(0)
