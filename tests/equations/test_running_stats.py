"""RunningStats of parts, merged: numpy's of the whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl.equations.running_stats import deviation, merge, no_stats, stats_of


def test_two_parts_by_hand():
    """{1, 3} and {8}: mean 4, squared deviations 9 + 1 + 16."""
    first = stats_of(torch.tensor([1.0, 3.0]), torch.tensor([True, True]))
    second = stats_of(torch.tensor([100.0, 8.0]), torch.tensor([False, True]))
    assert [float(x) for x in first] == [2.0, 2.0, 2.0]
    assert [float(x) for x in merge(first, second)] == [3.0, 4.0, 26.0]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sizes=st.lists(st.integers(0, 30), min_size=1, max_size=5))
def test_any_split_merges_to_numpys_moments_of_the_whole(seed: int, sizes: list[int]):
    """Parts may be empty, and what a mask leaves out may be no number."""
    rng = np.random.default_rng(seed)
    merged, whole = no_stats(3), [np.empty((0, 3))]
    for size in sizes:
        samples = rng.normal(rng.normal(0, 100), 2.0, (size, 4, 3)).astype(np.float32)
        mask = rng.random((size, 4)) < 0.7
        samples[~mask] = np.nan
        whole.append(samples[mask].astype(np.float64))
        merged = merge(merged, stats_of(torch.from_numpy(samples), torch.from_numpy(mask)))
    data = np.concatenate(whole)
    assert merged.count == len(data)
    assert {x.dtype for x in merged} == {torch.float64}
    if len(data):
        np.testing.assert_allclose(merged.mean, data.mean(0), rtol=1e-12)
        np.testing.assert_allclose(merged.m2, data.var(0) * len(data), rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(deviation(merged), np.sqrt(data.var(0) + 1e-8), rtol=1e-10)
    else:
        assert not torch.cat([merged.mean, merged.m2]).any()


def test_small_deviations_survive_a_large_mean():
    """A million +- 1/4 has variance 1/16, also in a thousand parts; sums of squares lose it."""
    samples = 1e6 + 0.25 * torch.tensor([-1.0, 1.0])
    part = stats_of(samples, torch.ones(2, dtype=torch.bool))
    merged = no_stats()
    for _ in range(1000):
        merged = merge(merged, part)
    assert float(merged.m2 / merged.count) == pytest.approx(1 / 16, rel=1e-9)


def test_the_deviation_of_nothing_is_one_and_of_a_constant_small():
    assert torch.equal(deviation(no_stats(2)), torch.ones(2, dtype=torch.float64))
    same = stats_of(torch.full((5,), 3.0), torch.ones(5, dtype=torch.bool))
    assert float(deviation(same)) == pytest.approx(1e-4)
    assert all(map(torch.equal, merge(no_stats(), same), same))
    assert all(map(torch.equal, merge(same, no_stats()), same))
