"""Samples as a few numbers: by hand, in any order, by their weights alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.networks.set_encoder import SetEncoder

TASKS, SAMPLES, WIDTH = 3, 6, 4


@pytest.fixture
def encoder():
    return SetEncoder(WIDTH, 5, 2, "e.")


@pytest.fixture
def params(encoder):
    generator = torch.Generator().manual_seed(2)
    return {
        name: x.double() + torch.randn(x.shape, generator=generator, dtype=torch.float64)
        for name, x in encoder.init(np.random.default_rng(0)).items()
    }


@pytest.fixture
def samples():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(TASKS, SAMPLES, WIDTH, generator=generator, dtype=torch.float64)


@pytest.fixture
def weights():
    drawn = torch.rand(TASKS, SAMPLES, generator=torch.Generator().manual_seed(1)).double()
    return drawn / drawn.sum(1, keepdim=True)


def test_it_is_a_weighted_mean_of_features(encoder, params, samples, weights):
    """Sample by sample, from the formula."""
    found = encoder(params, samples, weights)
    for k in range(TASKS):
        total = torch.zeros(5).double()
        for weight, x in zip(weights[k], samples[k], strict=True):
            for i in (0, 1):
                x = (params[f"e.each{i}.weight"] @ x + params[f"e.each{i}.bias"]).relu()
            total += weight * x
        expected = params["e.all0.weight"] @ total + params["e.all0.bias"]
        torch.testing.assert_close(found[k], expected)


def test_it_knows_no_order_and_nothing_of_what_weighs_nothing(encoder, params, samples, weights):
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(3))
    expected = encoder(params, samples, weights)
    torch.testing.assert_close(encoder(params, samples[:, order], weights[:, order]), expected)
    padded = torch.cat([samples, 9.0 * samples[:, :2]], 1)
    nothing = torch.cat([weights, torch.zeros(TASKS, 2).double()], 1)
    torch.testing.assert_close(encoder(params, padded, nothing), expected)


def test_every_sample_twice_says_the_same(encoder, params, samples, weights):
    twice = encoder(params, samples.repeat(1, 2, 1), weights.repeat(1, 2) / 2)
    torch.testing.assert_close(twice, encoder(params, samples, weights))
