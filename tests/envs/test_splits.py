"""No test task can be a training task, and both splits cover the range."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metarl.envs import catalogue
from metarl.envs.splits import CELLS, HELD_OUT_EVERY, held_out, quantiles

SEEDS = st.integers(0, 2**32 - 1)
DRAWS = st.sampled_from(["random", "stratified"])


@given(SEEDS, st.integers(1, 300), DRAWS)
def test_the_splits_have_no_cell_in_common(seed, num, draw):
    rng = np.random.default_rng(seed)
    train, test = (quantiles(num, rng, split, draw) for split in ("train", "test"))
    assert not held_out(train).any()
    assert held_out(test).all()
    assert ((train >= 0) & (train < 1)).all()


class Extreme:
    """A generator that always draws the same share."""

    def __init__(self, share):
        self.share = share

    def random(self, num):
        return np.full(num, self.share)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("share", [0.0, np.nextafter(1.0, 0.0)])
def test_rounding_never_carries_a_draw_into_the_next_cell(split, share):
    """Not in the quantile, and not once it is scaled to a velocity."""
    draws = quantiles(999, Extreme(share), split, "stratified")  # pyright: ignore
    assert (held_out(draws) == (split == "test")).all()
    assert (held_out(draws * 3.0 / 3.0) == (split == "test")).all()


@pytest.mark.parametrize("split", ["train", "test"])
def test_each_split_covers_the_whole_range_evenly(split, rng):
    draws = quantiles(200_000, rng, split)
    counts = np.histogram(draws, bins=64, range=(0, 1))[0]
    assert np.abs(counts / counts.mean() - 1).max() < 0.1
    cells = np.unique((draws * CELLS).astype(int))
    share = 1 / HELD_OUT_EVERY if split == "test" else 1 - 1 / HELD_OUT_EVERY
    assert len(cells) == CELLS * share


@given(SEEDS, st.integers(1, 100), st.sampled_from(["train", "test"]))
def test_stratified_has_one_task_in_each_equal_part(seed, num, split):
    draws = quantiles(num, np.random.default_rng(seed), split, "stratified")
    parts = np.arange(num + 1) / num
    slack = HELD_OUT_EVERY / CELLS  # a part may begin or end inside the other split's cells
    assert (draws >= parts[:-1] - slack).all()
    assert (draws <= parts[1:] + slack).all()


@pytest.mark.parametrize("name", ["half-cheetah-vel:maml2017", "half-cheetah-vel:promp", "ant-vel"])
def test_velocities_of_the_splits_are_apart(name, rng):
    distribution = catalogue.make(name, 10)
    top = 2.0 if "maml2017" in name and "cheetah" in name else 3.0
    for split in ("train", "test"):
        drawn = np.array([t["velocity"] for t in distribution.sample(5000, rng, split)])
        assert (held_out(drawn / top) == (split == "test")).all()
        assert 0 <= drawn.min() < 0.01 * top
        assert 0.99 * top < drawn.max() < top


def test_goals_of_the_splits_are_apart(rng):
    distribution = catalogue.make("point-goal", 10)
    for split in ("train", "test"):
        goals = np.array([t["goal"] for t in distribution.sample(5000, rng, split)])
        assert (held_out(goals[:, 0] + 0.5) == (split == "test")).all()
        assert np.abs(goals).max() <= 0.5
        assert np.ptp(goals, axis=0).min() > 0.98


def test_stratified_goals_form_a_latin_square(rng):
    goals = np.array(
        [t["goal"] for t in catalogue.make("point-goal", 10).sample(40, rng, draw="stratified")]
    )
    rows = np.floor((goals + 0.5) * 40 * (1 - 1e-12)).astype(int)
    assert sorted(rows[:, 1]) == list(range(40))


def test_directions_come_by_turns_when_stratified(rng):
    tasks = catalogue.make("half-cheetah-dir", 10).sample(40, rng, draw="stratified")
    assert sum(task["direction"] for task in tasks) == 0
    drawn = {t["direction"] for t in catalogue.make("ant-dir", 10).sample(40, rng, "test")}
    assert drawn == {1.0, -1.0}
