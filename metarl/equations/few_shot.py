"""Losses of supervised tasks, and the prototypes of classes."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """[K], over N examples and their numbers: [K, N, outputs] each."""
    return (predictions - targets).square().mean((-2, -1))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-mean_n log P(label_n), [K], of logits [K, N, classes] and labels [K, N]."""
    log_probs = logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return -log_probs.mean(-1)


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the examples whose likeliest class is theirs, [K]. Of equally likely ones each is
    as good: what knows nothing is right once in so many times."""
    likeliest = logits == logits.amax(-1, keepdim=True)
    hit = likeliest.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return (hit / likeliest.sum(-1)).mean(-1)


def class_sums(embeddings: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Sums of embeddings [K, N, d] by label [K, N], [K, classes, d], and how many there are of
    each, [K, classes, 1]. Their quotient is the prototype, arXiv:1703.05175, Eq. 1."""
    member = torch.nn.functional.one_hot(labels, classes).to(embeddings.dtype).mT
    return member @ embeddings, member.sum(-1, keepdim=True)


def prototype_logits(embeddings: Tensor, prototypes: Tensor) -> Tensor:
    """-||f(x) - p_c||^2, [K, N, classes] at embeddings [K, N, d]: arXiv:1703.05175, Eq. 2."""
    return -(embeddings.unsqueeze(-2) - prototypes.unsqueeze(-3)).square().sum(-1)
