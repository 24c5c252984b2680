"""Bernoulli bandits: frequencies, and chance that is an episode's own."""

import numpy as np
import pytest

from metarl.envs import catalogue
from metarl.envs.arrays.bandit import Bandit
from metarl.envs.splits import held_out
from metarl.types import Workers

ARMS = [0.1, 0.9, 0.5, 0.0, 1.0]


def pulled(tasks, seeds, arms, horizon=20):
    """Returns the rewards of pulling `arms` [T, K, E], [T, K, E]."""
    env = Bandit("bandit:5", "5", horizon).open(len(seeds), seeds.shape[1], Workers(0))
    env.set_tasks([{"probabilities": task} for task in tasks])
    env.reset(seeds)
    return np.array([env.step(arm[..., None]).rewards for arm in arms])


def grid(num_tasks, episodes):
    return np.arange(num_tasks * episodes, dtype=np.uint64).reshape(num_tasks, episodes)


@pytest.mark.parametrize("arm", range(5))
def test_an_arm_pays_with_its_probability(arm):
    rewards = pulled([ARMS], grid(1, 500), np.full((20, 1, 500), arm))
    assert set(np.unique(rewards)) <= {0.0, 1.0}
    p = ARMS[arm]
    assert abs(rewards.mean() - p) <= 4 * np.sqrt(p * (1 - p) / rewards.size)


def test_every_task_has_its_own_probabilities():
    rewards = pulled([[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]], grid(2, 3), np.full((4, 2, 3), 1))
    assert (rewards[:, 0] == 1).all()
    assert (rewards[:, 1] == 0).all()


def test_pulls_are_independent_of_one_another():
    """Over time and over episodes: a sum of n has the variance n p (1 - p)."""
    rewards = pulled([[0.5] * 5], grid(1, 2000), np.zeros((20, 1, 2000), int))[:, 0]
    for sums, count in ((rewards.sum(0), 20), (rewards.reshape(20, 100, 20).sum(2), 20)):
        assert sums.var() / (count * 0.25) == pytest.approx(1.0, abs=4 * np.sqrt(2 / sums.size))


def test_what_an_arm_pays_does_not_depend_on_what_was_pulled(rng):
    arms, others = rng.integers(5, size=(2, 20, 1, 50))
    once, again = (pulled([ARMS], grid(1, 50), choice) for choice in (arms, others))
    same = arms == others
    assert same.any()
    np.testing.assert_array_equal(once[same], again[same])


def test_an_episode_is_the_same_alone_and_among_others(rng):
    arms = rng.integers(5, size=(20, 2, 6))
    seeds = grid(2, 6)
    together = pulled([ARMS, ARMS[::-1]], seeds, arms)
    alone = pulled([ARMS[::-1]], seeds[1:, 4:5], arms[:, 1:, 4:5])
    np.testing.assert_array_equal(together[:, 1:, 4:5], alone)
    assert len(np.unique(together[:, 0], axis=1).T) > 1, "episodes differ by their seeds"


def test_steps_after_the_end_are_ignored_not_refused():
    rewards = pulled([ARMS], grid(1, 3), np.zeros((25, 1, 3), int), horizon=20)
    assert rewards.shape == (25, 1, 3)


def test_a_bandit_is_told_by_its_best_arm():
    described = Bandit("bandit:5", "5", 20).describe({"probabilities": [0.1, 0.9, 0.5, 0.0, 0.2]})
    assert described == "arm 1: 0.90"


def test_an_arm_pays_its_probability_on_average():
    rewards = pulled([[0.1, 0.9, 0.5, 0, 0.2]], grid(1, 500), np.full((20, 1, 500), 1))
    assert rewards.sum(0).mean() == pytest.approx(18, abs=4 * np.sqrt(20 * 0.09 / 500))


@pytest.mark.parametrize("arms", [5, 10])
def test_tasks_of_the_splits_are_apart_in_the_first_arm(arms, rng):
    distribution = catalogue.make(f"bandit:{arms}", 10)
    for split in ("train", "test"):
        tasks = distribution.sample(2000, rng, split)
        drawn = np.array([task["probabilities"] for task in tasks])
        assert drawn.shape == (2000, arms)
        assert (held_out(drawn[:, 0]) == (split == "test")).all()
        assert np.abs(drawn.mean(0) - 0.5).max() < 4 / np.sqrt(12 * 2000)
        assert np.abs(np.corrcoef(drawn.T) - np.eye(arms)).max() < 0.12


def test_stratified_probabilities_form_a_latin_hypercube(rng):
    tasks = catalogue.make("bandit", 10).sample(40, rng, draw="stratified")
    cells = np.floor(np.array([task["probabilities"] for task in tasks]) * 40).astype(int)
    for arm in range(1, 5):
        assert sorted(cells[:, arm]) == list(range(40))
    assert len({tuple(column) for column in cells.T}) == 5, "arms are shuffled apart"
