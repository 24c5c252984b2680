"""The linear feature baseline."""

from __future__ import annotations

import numpy as np
import torch

from metarl.equations.returns import baseline_features, fitted_values, pooled


def test_features_are_the_published_ones():
    """obs and obs^2 (clipped to 10), t/100 with its square and cube, 1."""
    obs = torch.tensor([[[2.0]], [[-50.0]], [[3.0]]])
    expected = [
        [2, 4, 0, 0, 0, 1],
        [-10, 100, 0.01, 1e-4, 1e-6, 1],
        [3, 9, 0.02, 4e-4, 8e-6, 1],
    ]
    np.testing.assert_allclose(baseline_features(obs)[:, 0].numpy(), expected)


def test_a_linear_return_is_fitted_exactly_and_padding_ignored():
    g = torch.Generator().manual_seed(0)
    obs = torch.randn(50, 4, 3, generator=g)
    returns = 2.0 * obs[..., 0] - obs[..., 1].square() + 5.0
    mask = torch.ones(50, 4, dtype=torch.bool)
    mask[40:, 1] = False
    spoilt = torch.where(mask, returns, torch.zeros(()))
    values = fitted_values(obs, spoilt, mask, 1e-8)
    torch.testing.assert_close(values[mask], returns[mask], atol=1e-3, rtol=1e-3)


def test_it_is_the_ridge_regression_of_numpy():
    g = torch.Generator().manual_seed(1)
    obs, returns = torch.randn(20, 3, 2, generator=g), torch.randn(20, 3, generator=g)
    mask = torch.ones(20, 3, dtype=torch.bool)
    f = baseline_features(obs).flatten(0, 1).numpy()
    y = returns.double().flatten().numpy()
    w = np.linalg.lstsq(
        np.vstack([f, np.sqrt(0.1) * np.eye(f.shape[1])]),
        np.concatenate([y, np.zeros(f.shape[1])]),
        rcond=None,
    )[0]
    values = fitted_values(obs, returns, mask, 0.1).flatten().numpy()
    np.testing.assert_allclose(values, f @ w, rtol=1e-4, atol=1e-5)


def test_an_image_is_read_as_means_of_its_parts():
    """Two channels of 8 x 4 have 4 x 4 means each, over 2 x 1 pixels; other numbers stay."""
    obs = torch.randn(3, 2, 66, dtype=torch.float64)
    image = obs[..., :64].numpy().reshape(3, 2, 2, 4, 2, 4, 1)
    found = pooled(obs, (2, 8, 4)).numpy()
    np.testing.assert_allclose(found[..., :32], image.mean((4, 6)).reshape(3, 2, 32))
    np.testing.assert_array_equal(found[..., 32:], obs[..., 64:].numpy())
    assert pooled(torch.zeros(1, 40 * 9), (40, 3, 3)).shape == (1, 40)
