"""The bound's closed forms: divergences of beliefs in a row, and the sum over a trial."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from metarl.equations import elbo
from metarl.equations.gaussian import Gaussian


def test_beliefs_are_compared_with_the_one_before_and_the_first_with_a_standard_normal():
    """In one dimension KL(N(a, s^2) || N(b, u^2)) = log(u/s) + (s^2 + (a - b)^2) / 2u^2 - 1/2."""
    means, deviations = [1.0, 3.0, 3.0], [2.0, 0.5, 0.5]
    beliefs = Gaussian(torch.tensor(means)[:, None], torch.tensor(deviations).log()[:, None])
    first = -math.log(2.0) + (4.0 + 1.0) / 2.0 - 0.5
    second = math.log(2.0 / 0.5) + (0.25 + 4.0) / 8.0 - 0.5
    found = elbo.sequential_kl(beliefs).tolist()
    assert found == pytest.approx([first, second, 0.0], abs=1e-6)


def test_divergences_sum_over_the_dimensions():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 3, 5, 4, generator=generator)  # [trials, steps, latent]
    beliefs = elbo.belief(torch.cat([mean, log_variance], -1))
    own = Normal(mean, (0.5 * log_variance).exp())
    start = torch.zeros(3, 1, 4)
    prior = Normal(
        torch.cat([start, mean[:, :-1]], 1),
        torch.cat([start, 0.5 * log_variance[:, :-1]], 1).exp(),
    )
    torch.testing.assert_close(elbo.sequential_kl(beliefs), kl_divergence(own, prior).sum(-1))


def test_the_bound_of_a_trial_by_hand():
    """Two terms of a trial of 3 steps, each predicting two of them: 3 times the mean error."""
    errors = torch.tensor([[[1.0, 3.0], [0.0, 4.0]]])
    found = elbo.negative_elbo(errors, torch.tensor([[0.5, 0.25]]), torch.tensor([3.0]), 2.0)
    assert found.tolist() == [3 * 2.0 + 2 * 0.5 + 3 * 2.0 + 2 * 0.25]


def test_predictions_that_are_drawn_stand_for_all():
    """Drawn evenly, the mean over draws is the sum over all steps."""
    rows = torch.rand(1, 1, 6, generator=torch.Generator().manual_seed(0))
    none, length = torch.zeros(1, 1), torch.tensor([6.0])
    whole = elbo.negative_elbo(rows, none, length, 1.0)
    parts = [elbo.negative_elbo(rows[..., [i]], none, length, 1.0) for i in range(6)]
    torch.testing.assert_close(torch.stack(parts).mean(0), whole)
    torch.testing.assert_close(whole, rows.sum((1, 2)))
