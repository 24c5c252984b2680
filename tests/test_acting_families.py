"""Distributions of actions in numpy."""

from __future__ import annotations

import warnings

import numpy as np

from metarl.acting.families import GaussianActions


def test_a_deviation_that_overflows_warns_of_nothing():
    """Actions that are not finite end the run with an error; a warning of numpy's explains less."""
    distribution = GaussianActions(
        np.full((1, 2), 1e6, np.float32), np.float32(-9), np.float32(np.inf), None, None
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        deviation = distribution.deviation()
    assert deviation is not None
    assert np.isinf(deviation).all()
