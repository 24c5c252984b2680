"""2-D navigation, by arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shortest_walk import best_return

from metarl.envs import catalogue
from metarl.types import Workers

COORDINATE = st.floats(-0.5, 0.5)


def walk(goal, horizon=100):
    """The return of who walks straight for the goal, and where the episode ended."""
    env = catalogue.make("point-goal", horizon).open(1, 1, Workers(1))
    env.set_tasks([{"goal": list(goal)}])
    position = env.reset(np.zeros((1, 1), np.uint64))[0, 0].astype(np.float64)
    total = 0.0
    for t in range(1, horizon + 1):
        action = np.clip((np.asarray(goal) - position) / 0.1, -1, 1)
        step = env.step(action[None, None])
        position = step.obs[0, 0].astype(np.float64)
        total += float(step.rewards[0, 0])
        if step.terminated[0, 0] or step.truncated[0, 0]:
            return total, t, bool(step.terminated[0, 0])
    raise AssertionError("an episode must end at its horizon")


@given(COORDINATE, COORDINATE)
def test_the_best_return_is_that_of_walking_straight(x, y):
    best = best_return({"goal": [x, y]}, 100)
    total, _, arrived = walk((x, y))
    assert arrived
    # At a remainder of exactly 0.01 rounding decides whether one more step is needed.
    assert total == pytest.approx(best, abs=0.0101)


def test_the_best_return_by_hand():
    """To (0.25, 0): distances 0.15, 0.05, 0. And cut off after two of the three."""
    assert best_return({"goal": [0.25, 0.0]}, 100) == pytest.approx(-0.2)
    assert best_return({"goal": [0.25, 0.0]}, 1) == pytest.approx(-0.15)


def test_no_walk_beats_the_best(rng):
    distribution = catalogue.make("point-goal", 100)
    tasks = distribution.sample(30, rng)
    env = distribution.open(30, 50, Workers(1))
    env.set_tasks(tasks)
    obs = env.reset(np.zeros((30, 50), np.uint64))
    goals = np.array([task["goal"] for task in tasks])[:, None]
    total, playing = np.zeros((30, 50)), np.ones((30, 50), bool)
    for _ in range(100):
        step = env.step((goals - obs) / 0.1 + 0.5 * rng.standard_normal((30, 50, 2)))
        total += playing * step.rewards
        playing &= ~(step.terminated | step.truncated)
        obs = step.obs
    best = [best_return(task, 100) for task in tasks]
    assert (total <= np.array(best)[:, None] + 0.0101).all()


def test_a_move_and_an_arrival():
    env = catalogue.make("point-goal", 100).open(2, 1, Workers(1))
    env.set_tasks([{"goal": [0.3, -0.4]}, {"goal": [0.05, 0.1]}])
    env.reset(np.zeros((2, 1), np.uint64))
    step = env.step(np.array([[[9.0, -0.5]], [[0.5, 1.0]]]))
    np.testing.assert_allclose(step.obs[:, 0], [[0.1, -0.05], [0.05, 0.1]], rtol=1e-6)
    np.testing.assert_allclose(step.rewards[:, 0], [-np.hypot(0.2, 0.35), 0.0], atol=1e-7)
    np.testing.assert_array_equal(step.terminated[:, 0], [False, True])
    np.testing.assert_array_equal(step.success[:, 0], [False, True])
    again = env.step(np.zeros((2, 1, 2)))
    assert not again.terminated.any(), "an episode ends once"
