"""Grid navigation: its steps by hand, and its Bayes-optimal policy by another route."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from metarl.envs import catalogue
from metarl.envs.arrays.grid_navigation import GOALS, MOVES, goals_of
from metarl.envs.arrays.grid_optima import Searcher, bayes_optimum
from metarl.envs.arrays.scripted import play
from metarl.types import Workers

TASKS = [{"goal": list(goal)} for goal in GOALS]


def walked(goal, actions):
    """Returns the places and rewards of a walk."""
    env = catalogue.make("grid-navigation", 15).open(1, 1, Workers(0))
    env.set_tasks([{"goal": goal}])
    env.reset(np.zeros((1, 1), np.uint64))
    steps = [env.step(np.full((1, 1, 1), action)) for action in actions]
    return [s.obs[0, 0].tolist() for s in steps], [round(float(s.rewards[0, 0]), 3) for s in steps]


def test_walls_stop_and_each_step_on_the_goal_pays():
    """Left and down into walls, then up twice to the goal, stay there, and away."""
    places, rewards = walked([0, 2], [4, 3, 1, 1, 0, 2])
    assert places == [[0, 0], [0, 0], [0, 1], [0, 2], [0, 2], [1, 2]]
    assert rewards == [-0.1, -0.1, -0.1, 1.0, 1.0, -0.1]
    places, _ = walked([0, 2], [1] * 6 + [2] * 6)
    assert places[-1] == [4, 4]


def test_all_goals_but_the_four_cells_at_the_start_are_in_both_splits(rng):
    assert len(GOALS) == 21
    distribution = catalogue.make("grid-navigation", 15)
    for split in ("train", "test"):
        drawn = distribution.sample(42, rng, split, "stratified")
        assert sorted(tuple(task["goal"]) for task in drawn) == sorted(GOALS * 2)
        counts = np.unique([task["goal"] for task in distribution.sample(4200, rng, split)], axis=0)
        assert len(counts) == 21


def by_beliefs(side: int, horizon: int, episodes: int) -> float:
    """Returns the best expected return by expectimax over beliefs, with nothing assumed of when a
    goal is found or of what is best then."""
    goals, cells = goals_of(side), [(x, y) for x in range(side) for y in range(side)]

    @cache
    def value(belief: frozenset, place: tuple[int, int], step: int) -> float:
        if step == horizon * episodes:
            return 0.0
        start = (0, 0) if step % horizon == 0 else place
        return max(after(belief, start, move, step) for move in MOVES.tolist())

    def after(belief, place, move, step):
        reached = tuple(min(max(a + b, 0), side - 1) for a, b in zip(place, move, strict=True))
        assert reached in cells
        hit = belief & {reached}
        total = 0.0
        for found, reward in ((hit, 1.0), (belief - hit, -0.1)):
            if found:
                share = len(found) / len(belief)
                total += share * (reward + value(frozenset(found), reached, step + 1))
        return total

    return value(frozenset(goals), (0, 0), 0)


@pytest.mark.parametrize(
    ("side", "horizon", "episodes"), [(3, 3, 1), (3, 4, 2), (3, 5, 3), (3, 9, 2), (4, 6, 1)]
)
def test_the_optimum_is_that_of_the_belief_mdp(side, horizon, episodes):
    found = bayes_optimum(episodes, horizon, side).total
    assert found == pytest.approx(by_beliefs(side, horizon, episodes), abs=1e-9)


@pytest.mark.parametrize("episodes", [1, 2, 3, 4])
def test_the_policy_gets_its_expected_return_in_the_environment(episodes):
    """On every goal once, so the mean is the expectation, and nothing is left to chance. Goals are
    96 / 21 steps away on average, and one in step d of an episode pays 16.1 - 1.1 d."""
    optimum = bayes_optimum(episodes)
    returns = play(catalogue.make("grid-navigation", 15), Searcher(optimum), TASKS, 1, episodes)
    np.testing.assert_allclose(returns.mean((1, 2)), optimum.returns, atol=1e-6)
    assert optimum.total == pytest.approx(4.0 + (episodes - 1) * (16.1 - 1.1 * 96 / 21))


def test_four_episodes_by_hand():
    """The first episode finds 14 of 21 goals, in steps 2 to 15. A goal found in step d pays
    16 - 1.1 d + 0.1, none pays -1.5: (14 x 16.1 - 1.1 x 119 - 7 x 1.5) / 21 = 4."""
    optimum = bayes_optimum(4)
    assert sorted(optimum.found)[:14] == list(range(2, 16))
    assert optimum.returns[0] == pytest.approx((14 * 16.1 - 1.1 * 119 - 7 * 1.5) / 21)
    assert (optimum.found > 0).all()
