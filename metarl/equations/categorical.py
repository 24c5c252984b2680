"""Categorical policies over n actions, with the interface of `gaussian.Gaussian`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Categorical(NamedTuple):
    """A choice among n options; an action is a vector that holds one index."""

    logits: Tensor  # [..., n]; adding a constant changes nothing

    noise = "gumbel"
    """The kind of noise that `sample` takes."""

    def sample(self, noise: Tensor) -> Tensor:
        """Returns actions [..., 1] (int64) from standard Gumbel `noise` [..., n] (Gumbel-max)."""
        return (self.logits + noise).argmax(-1, keepdim=True)

    def log_probs(self, actions: Tensor) -> Tensor:
        """log p(action): [...]."""
        return self.logits.log_softmax(-1).gather(-1, actions).squeeze(-1)

    def kl(self, new: Categorical) -> Tensor:
        """KL(self || new): [...]."""
        log_p, log_q = self.logits.log_softmax(-1), new.logits.log_softmax(-1)
        return (log_p.exp() * (log_p - log_q)).sum(-1)

    def fisher(self, tangent: Categorical, factor: Tensor) -> Categorical:
        """factor (diag(p) - p p^T) tangent, with the Hessian of KL(self || new) in the logits at
        new = self; `factor` is [...]."""
        return CategoricalCurvature(self.logits.softmax(-1), factor[..., None]).times(tangent)

    def score(self, actions: Tensor, factor: Tensor) -> Categorical:
        """Gradient of factor log p(action) in the logits, factor (onehot(action) - p): [..., n]."""
        chosen = torch.zeros_like(self.logits).scatter(-1, actions, 1.0)
        return Categorical((chosen - self.logits.softmax(-1)) * factor[..., None])

    def score_curvature(self, actions: Tensor, factor: Tensor) -> CategoricalCurvature:
        """Hessian of factor log p(action) in the logits; `factor` is [...]."""
        return CategoricalCurvature(self.logits.softmax(-1), -factor[..., None])

    def entropy(self) -> Tensor:
        """Entropy in nats: [...]."""
        log_p = self.logits.log_softmax(-1)
        return -(log_p.exp() * log_p).sum(-1)


class CategoricalCurvature(NamedTuple):
    """Matrix factor (diag(p) - p p^T), of a score or of the KL; no action changes it."""

    p: Tensor  # [..., n]
    factor: Tensor  # [..., 1]

    def times(self, tangent: Categorical) -> Categorical:
        weighted = self.p * tangent.logits
        centred = weighted - self.p * weighted.sum(-1, keepdim=True)
        return Categorical(self.factor * centred)
