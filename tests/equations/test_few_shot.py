"""Losses against torch's own, task by task, and the prototypes of classes by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from metarl.equations.few_shot import (
    accuracy,
    class_sums,
    cross_entropy,
    mean_squared_error,
    prototype_logits,
)

TASKS, EXAMPLES, OUTPUTS = 3, 7, 4


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(TASKS, EXAMPLES, OUTPUTS, generator=generator, dtype=torch.float64)


@pytest.fixture
def labels():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(OUTPUTS, (TASKS, EXAMPLES), generator=generator)


def test_a_loss_is_each_tasks_own(logits, labels):
    targets = logits.flip(1)
    squared, entropy = mean_squared_error(logits, targets), cross_entropy(logits, labels)
    assert squared.shape == entropy.shape == (TASKS,)
    for k in range(TASKS):
        torch.testing.assert_close(squared[k], F.mse_loss(logits[k], targets[k]))
        torch.testing.assert_close(entropy[k], F.cross_entropy(logits[k], labels[k]))


def test_large_logits_have_a_finite_loss():
    logits = torch.tensor([[[1e4, 0.0, -1e4]]])
    assert cross_entropy(logits, torch.tensor([[0]])).tolist() == [0.0]
    assert cross_entropy(logits, torch.tensor([[2]])).tolist() == [2e4]


def test_accuracy_is_the_share_of_the_likeliest(logits, labels):
    expected = (logits.argmax(-1) == labels).float().mean(-1)
    torch.testing.assert_close(accuracy(logits, labels), expected)


def test_of_equally_likely_classes_each_is_as_good():
    """Equal logits are right once in so many times, whatever the labels."""
    labels = torch.tensor([[0, 0, 3, 2]])
    assert accuracy(torch.zeros(1, 4, 4), labels).tolist() == [0.25]
    two = torch.tensor([[[1.0, 1.0, 0.0]]])
    assert [accuracy(two, torch.tensor([[c]])).item() for c in range(3)] == [0.5, 0.5, 0.0]


def test_prototypes_are_class_means_and_logits_squared_distances(logits, labels):
    """Classes without an example have a sum of zero, of none."""
    sums, counts = class_sums(logits, labels, OUTPUTS + 1)
    assert counts[:, -1].tolist() == [[0.0]] * TASKS
    assert not sums[:, -1].any()
    centres = torch.stack([logits[:, c] for c in range(3)], 1)
    found = prototype_logits(logits, centres)
    for k in range(TASKS):
        for c in range(OUTPUTS):
            chosen = logits[k, labels[k] == c]
            assert counts[k, c].item() == len(chosen)
            torch.testing.assert_close(sums[k, c], chosen.sum(0))
        torch.testing.assert_close(found[k], -(torch.cdist(logits[k], centres[k]) ** 2))
