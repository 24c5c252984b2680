"""Statistics over seeds and tasks, against rliable, scipy and closed forms."""

import math

import numpy as np
import pandas.util._decorators as decorators
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rliable import metrics

from metarl.comparison import statistics


@pytest.fixture(scope="module")
def rliable():
    """rliable's bootstrap. It imports a part of arch that it never calls, and this part uses a
    decorator as pandas had it before version 3."""
    theirs = decorators.deprecate_kwarg
    decorators.deprecate_kwarg = lambda *_, **__: lambda function: function
    try:
        from rliable import library
    finally:
        decorators.deprecate_kwarg = theirs
    return library


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def crossed(rng, seeds, tasks, of_seeds, of_tasks, noise=0.5):
    """Scores whose seeds and tasks each have a part of their own, [N, K]."""
    parts = rng.normal(size=(seeds, 1)) * of_seeds + rng.normal(size=(1, tasks)) * of_tasks
    return parts + noise * rng.normal(size=(seeds, tasks))


def close(expected):
    return pytest.approx(expected, rel=1e-9, abs=1e-9)


SCORES = arrays(
    np.float64, st.tuples(st.integers(1, 5), st.just(4)), elements=st.integers(-9, 9).map(float)
)


@settings(max_examples=50)
@given(SCORES, SCORES)
def test_estimates_agree_with_rliable(first, second):
    assert statistics.iqm(first) == close(metrics.aggregate_iqm(first))
    theirs = metrics.probability_of_improvement(first, second)
    assert statistics.probability_of_improvement(first, second) == close(theirs)


def test_a_profile_agrees_with_rliable(rliable, rng):
    scores, thresholds = rng.normal(size=(4, 30)), np.linspace(-2, 2, 9)
    ours = statistics.performance_profile(scores, thresholds, "stratified", 2000)
    theirs, bands = rliable.create_performance_profile({"x": scores}, thresholds, reps=2000)
    assert ours.share == close(theirs["x"])
    assert np.array([ours.low, ours.high]) == pytest.approx(bands["x"], abs=0.02)


@pytest.mark.parametrize("draw", ["stratified", "stratified of two"])
def test_a_stratified_interval_agrees_with_rliable(rliable, rng, draw):
    """Both are random: two percentile intervals differ by a few percent of their width."""
    first, second = crossed(rng, 5, 6, 1, 2), crossed(rng, 3, 6, 1, 2)
    np.random.seed(0)  # noqa: NPY002  their draws come from numpy's global state
    if draw == "stratified":
        ours = statistics.estimated(statistics.iqm, first, draw="stratified")
        scores, function = {"x": first}, lambda x: np.array([metrics.aggregate_iqm(x)])
    else:
        ours = statistics.estimated(
            statistics.probability_of_improvement, first, second, draw="stratified"
        )
        scores = {"x": [first, second]}
        # Theirs takes 3 ms; that the two agree is another test.
        function = lambda x, y: np.array([statistics.probability_of_improvement(x, y)])  # noqa: E731
    estimates, intervals = rliable.get_interval_estimates(scores, function, reps=3000)
    assert ours.estimate == close(estimates["x"][0])
    width = ours.high - ours.low
    assert [ours.low, ours.high] == pytest.approx(list(intervals["x"][:, 0]), abs=0.12 * width)


def coverage(rng, draw, rounds=200, seeds=12, tasks=30, of_seeds=1.0, of_tasks=2.0):
    """Share of intervals of a paired difference that hold the true one, which is 1."""
    held = 0
    for _ in range(rounds):
        shared = of_tasks * rng.normal(size=(1, tasks))
        first, second = (crossed(rng, seeds, tasks, of_seeds, 0.3) + shared for _ in range(2))
        found = statistics.estimated(
            statistics.difference, first + 1, second, draw=draw, resamples=300
        )
        held += found.low <= 1 <= found.high
    return held / rounds


def test_the_interval_covers_other_seeds_and_tasks(rng):
    """Normal paired scores: the interval holds the true difference in about 95 of 100 studies.
    That of rliable supposes seeds of each task's own, and fails where tasks share their seeds."""
    assert 0.89 <= coverage(rng, "both") <= 0.99
    assert coverage(rng, "stratified", rounds=60) < 0.5


def test_pairing_removes_what_is_hard_about_tasks(rng):
    """The interval of a difference does not depend on how much the tasks differ."""
    first, second = crossed(rng, 5, 20, 0.1, 0.1), crossed(rng, 5, 20, 0.1, 0.1)
    hard = 1000.0 * rng.normal(size=20)
    plain = statistics.paired_difference(first, second)
    shifted = statistics.paired_difference(first + hard, second + hard)
    assert np.array(plain.difference) == pytest.approx(np.array(shifted.difference), abs=1e-9)
    alone = statistics.estimated(statistics.mean, first + hard)
    assert alone.high - alone.low > 100 * (plain.difference.high - plain.difference.low)


@pytest.mark.parametrize(
    ("draw", "spread"),
    [
        ("both", math.hypot(1 / math.sqrt(40), 2 / math.sqrt(400))),
        ("seeds", 1 / math.sqrt(40)),
        ("tasks", 2 / math.sqrt(400)),
    ],
)
def test_intervals_of_many_normal_scores(rng, draw, spread):
    """The mean of many is normal: 1.96 standard errors to either side, of what is drawn."""
    of_seeds, of_tasks = rng.normal(size=40), rng.normal(size=400)
    of_seeds, of_tasks = ((x - x.mean()) / x.std() for x in (of_seeds, of_tasks))
    found = statistics.estimated(
        statistics.mean, of_seeds[:, None] + 2 * of_tasks, draw=draw, resamples=3000
    )
    assert found.estimate == pytest.approx(0, abs=1e-12)
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.06)


def test_one_seed_knows_only_of_tasks(rng):
    one, other = rng.normal(size=(1, 20)), rng.normal(size=(1, 20))
    both, tasks = (statistics.estimated(statistics.iqm, one, draw=x) for x in ("both", "tasks"))
    assert both == tasks
    assert np.isnan(statistics.estimated(statistics.iqm, one, draw="seeds").low)
    assert np.isnan(statistics.estimated(statistics.iqm, one[:, :1]).high)
    assert math.isnan(statistics.paired_difference(one, other).p_seeds)


def test_p_values_agree_with_scipy(rng):
    """All signs and all divisions of the seeds are tried, as scipy does."""
    first, second = rng.normal(size=(4, 8)) + 0.4, rng.normal(size=(3, 8))
    ours = statistics.paired_difference(first, second)

    def gap(x, y, axis=-1):
        return np.abs(np.mean(x, axis=axis) - np.mean(y, axis=axis))

    seeds = scipy.stats.permutation_test(
        (first.mean(1), second.mean(1)), gap, vectorized=True, alternative="greater"
    )
    tasks = scipy.stats.permutation_test(
        (first.mean(0) - second.mean(0),),
        lambda x, axis=-1: np.abs(np.mean(x, axis=axis)),
        permutation_type="samples",
        vectorized=True,
        alternative="greater",
    )
    assert ours.p_seeds == close(seeds.pvalue)
    assert ours.p_tasks == close(tasks.pvalue)


def test_few_seeds_cannot_be_significant():
    """Three against three seeds: 20 divisions, of which two have the largest gap."""
    apart = statistics.paired_difference(np.ones((3, 5)) * [[1], [2], [3]], np.zeros((3, 5)))
    assert apart.p_seeds == apart.smallest_p_seeds == close(2 / 20)
    assert statistics.sign_flip(np.ones(30)) == close(1 / (statistics.MOST_SPLITS + 1))


def test_drawn_divisions_agree_with_all(rng):
    """12 against 12 seeds have 2.7 million divisions; the normal theory knows the answer."""
    first, second = rng.normal(size=(12, 1)) + 0.5, rng.normal(size=(12, 1))
    expected = scipy.stats.ttest_ind(first[:, 0], second[:, 0])[1]
    assert statistics.paired_difference(first, second).p_seeds == pytest.approx(expected, abs=0.03)


def test_holm():
    found = statistics.holm(np.array([0.04, np.nan, 0.01, 0.03]))
    np.testing.assert_allclose(found, [0.06, np.nan, 0.03, 0.06])


def test_what_is_no_scores_is_refused():
    with pytest.raises(ValueError, match="20 and 19 tasks"):
        statistics.paired_difference(np.zeros((2, 20)), np.zeros((2, 19)))
    with pytest.raises(ValueError, match="not finite"):
        statistics.paired_difference(np.full((2, 2), np.nan), np.zeros((2, 2)))


@pytest.mark.parametrize(("level", "size"), [(0.0, 1e-14), (0.0, 1.0), (1e6, 1e-3)])
def test_ties_of_a_permutation_test_are_relative(level: float, size: float):
    """The mirrored division of the seeds ties with the observed one, whatever the scores' size."""
    first, second = (level + size * (np.arange(3.0)[:, None] / 7 + x) for x in (0.1, 2.1))
    assert statistics.paired_difference(first, second).p_seeds == pytest.approx(2 / 20)
