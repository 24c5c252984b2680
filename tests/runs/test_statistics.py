"""Figures over tasks, against closed forms, scipy and rliable."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rliable import metrics as rliable

from metarl.runs import statistics


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def test_closed_forms():
    """The middle half of 1..8 is 3..6; the sum of squares around 4.5 is 42."""
    values = np.arange(1.0, 9.0)[::-1]
    assert statistics.stderr(values) == pytest.approx(np.sqrt(42 / 7 / 8))
    assert statistics.interquartile_mean(np.append(values[1:], 100)) == pytest.approx(4.5)


def test_one_task_has_no_spread():
    assert np.isnan(statistics.stderr(np.ones((1, 3)))).all()
    assert statistics.interquartile_mean(np.ones((1, 3))).tolist() == [1, 1, 1]


def close(expected):
    return pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(arrays(np.float64, st.tuples(st.integers(2, 30)), elements=st.floats(-1e3, 1e3)))
def test_against_scipy_and_rliable(values):
    assert statistics.stderr(values) == close(scipy.stats.sem(values))
    iqm = statistics.interquartile_mean(values)
    assert iqm == close(rliable.aggregate_iqm(values[:, None]))


def interval(values, rng, resamples=statistics.RESAMPLES):
    """Low and high, [2, ...]."""
    return statistics.interval95(statistics.resampled_means(values, rng, resamples)).T


def test_interval_against_scipy(rng):
    """Both are random: two percentile intervals differ by a few percent of their width."""
    values = rng.exponential(size=40)
    low, high = interval(values, rng, resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert [low, high] == pytest.approx(list(theirs), abs=float(0.04 * (high - low)))


def test_interval_of_many_normal_values(rng):
    """The mean of many is normal: 1.96 standard errors to either side."""
    values = rng.normal(3.0, 2.0, size=(2000, 1))
    low, high = interval(values, rng)
    assert (high - low) == pytest.approx(2 * 1.96 * statistics.stderr(values), rel=0.05)
    assert (high + low) / 2 == pytest.approx(values.mean(axis=0), abs=0.01)


def test_tasks_are_drawn_whole(rng):
    """A quantity that each task keeps from step to step keeps its interval exactly."""
    values = np.repeat(rng.normal(size=(20, 1)), 3, axis=1)
    low, high = interval(values, rng)
    assert np.ptp(low) == np.ptp(high) == 0


def test_a_stratified_bootstrap(rng):
    """The mean of two groups' means is normal, with half the root of their summed variances."""
    groups = rng.normal(0.0, 1.0, size=1000), rng.normal(50.0, 3.0, size=500)
    means = np.mean([statistics.resampled_means(group, rng) for group in groups], axis=0)
    low, high = statistics.interval95(means)
    spread = np.sqrt(sum(statistics.stderr(group) ** 2 for group in groups)) / 2
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.05)


def test_a_summary_is_over_tasks_not_episodes(rng):
    """Ten times the episodes with the same mean change nothing."""
    returns = rng.normal(size=(12, 3, 2))
    few, many = (statistics.summarise(r) for r in (returns, np.repeat(returns, 10, axis=-1)))
    for name in few._fields:
        np.testing.assert_allclose(getattr(few, name), getattr(many, name))
    assert few.ci95.shape == (3, 2)
    np.testing.assert_allclose(few.stderr, scipy.stats.sem(returns.mean(-1)))


def test_summaries_repeat(rng):
    returns = rng.normal(size=(5, 2, 4))
    np.testing.assert_array_equal(
        statistics.summarise(returns).ci95, statistics.summarise(returns).ci95
    )


def test_a_single_task_has_no_interval():
    """Neither a standard error: nothing is known of other tasks."""
    one = statistics.summarise(np.array([[[-49.0, -49.2], [-20.0, -20.4]]]))
    np.testing.assert_allclose(one.mean, [-49.1, -20.2])
    assert np.isnan(one.ci95).all()
    assert np.isnan(one.stderr).all()
