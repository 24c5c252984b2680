"""Losses of supervised tasks, and class prototypes."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean over examples and outputs, [K]; both arguments are [K, N, outputs]."""
    return (predictions - targets).square().mean((-2, -1))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-mean_n log P(label_n), [K]; logits are [K, N, classes], labels [K, N]."""
    log_probs = logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return -log_probs.mean(-1)


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the examples whose likeliest class is their label, [K]. A tie of n classes that
    includes the label counts 1/n, so a constant prediction gets the accuracy of chance."""
    likeliest = logits == logits.amax(-1, keepdim=True)
    hit = likeliest.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return (hit / likeliest.sum(-1)).mean(-1)


def class_sums(embeddings: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Sums of embeddings [K, N, d] for each label, [K, classes, d], and the number of examples,
    [K, classes, 1]. Sum / number is the prototype, arXiv:1703.05175, Eq. 1."""
    member = torch.nn.functional.one_hot(labels, classes).to(embeddings.dtype).mT
    return member @ embeddings, member.sum(-1, keepdim=True)


def prototype_logits(embeddings: Tensor, prototypes: Tensor) -> Tensor:
    """-||f(x) - p_c||^2, [K, N, classes], for embeddings [K, N, d] (arXiv:1703.05175, Eq. 2)."""
    return -(embeddings.unsqueeze(-2) - prototypes.unsqueeze(-3)).square().sum(-1)
