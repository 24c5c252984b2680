"""Sparse point and wind: steps by hand, bounds by optimisation, and policies that attain them."""

from __future__ import annotations

import numpy as np
import pytest

from metarl.envs import catalogue
from metarl.envs.arrays.point_optima import (
    Steersman,
    Sweeper,
    told_angle,
    told_goal,
    told_wind,
)
from metarl.envs.arrays.scripted import Memoryless, play
from metarl.types import Workers


def stepped(name, task, actions):
    """Returns the steps of one episode with these actions [T, 2]."""
    env = catalogue.make(name, len(actions)).open(1, 1, Workers(0))
    env.set_tasks([task])
    env.reset(np.zeros((1, 1), np.uint64))
    return [env.step(np.array(action, dtype=np.float32)[None, None]) for action in actions]


def test_a_reward_within_the_radius_alone():
    """Up to (0, 0.7), (0, 0.8) and (0, 1.2): at distance 0.3, 0.2 and 0.2 of the goal (0, 1)."""
    task, ups = {"angle": np.pi / 2}, [[0, 1]] * 12
    sparse = [float(step.rewards[0, 0]) for step in stepped("sparse-point", task, ups)]
    assert sparse[6] == 0.0
    assert sparse[8] == pytest.approx(0.9)
    assert sparse[9] == pytest.approx(1.0)
    assert sparse[10] == pytest.approx(0.9)
    dense = [float(step.rewards[0, 0]) for step in stepped("sparse-point:dense", task, ups)]
    np.testing.assert_allclose(dense, -np.abs(1.0 - 0.1 * np.arange(1, 13)), atol=1e-6)
    solved = [bool(step.success[0, 0]) for step in stepped("sparse-point:dense", task, ups)]
    assert solved[9]
    assert not any(solved[:7])


def test_a_wind_is_added_to_every_move():
    steps = stepped("wind", {"wind": [0.05, -0.02]}, [[1, 0], [0, 3], [0, 0]])
    places = np.array([step.obs[0, 0] for step in steps])
    np.testing.assert_allclose(places, [[0.15, -0.02], [0.2, 0.06], [0.25, 0.04]], atol=1e-6)
    rewards = [float(s.rewards[0, 0]) for s in stepped("wind", {"wind": [0, 0]}, [[0, 1]] * 11)]
    assert rewards == [0.0] * 9 + [1.0, 0.0]


def greedy_to(places, stride=0.1):
    """Returns the memoryless policy that moves towards its task's place [K, 1, 2]."""
    return Memoryless(lambda obs: np.clip((places - obs) / stride, -1.0, 1.0))


@pytest.mark.parametrize(
    ("name", "key"), [("point-goal", "goal"), ("sparse-point", "angle"), ("sparse-point:dense", "")]
)
def test_who_is_told_attains_the_bound_and_none_exceeds_it(name, key, rng):
    """The bound is attained by going straight there, and random changes of the way are worse."""
    distribution = catalogue.make(name, 30)
    tasks = distribution.sample(40, rng, "test")
    if key == "goal":
        goals = np.array([task["goal"] for task in tasks])
        bounds = told_goal(goals, 30)
    else:
        angles = np.array([task["angle"] for task in tasks])
        goals = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        bounds = told_angle(angles, 30, dense=not key)
    told = play(distribution, greedy_to(goals[:, None]), tasks)[0, :, 0]
    np.testing.assert_allclose(told, bounds, atol=1e-4)

    def disturbed(obs):
        noise = 0.3 * rng.standard_normal(obs.shape)
        return np.clip((goals[:, None] - obs) / 0.1, -1.0, 1.0) + noise

    others = play(distribution, Memoryless(disturbed), tasks, trials=50)[0]
    assert (others <= bounds[:, None] + 1e-4).all()


def test_a_policy_that_is_not_told_the_wind_loses_nothing(rng):
    """In the first episode and the second, in 500 winds and in the strongest: the bound exactly."""
    distribution = catalogue.make("wind", 75)
    corners = [{"wind": [x, y]} for x in (-0.08, 0.08) for y in (-0.08, 0.0, 0.08)]
    tasks = [*distribution.sample(500, rng, "test"), *corners]
    bounds = told_wind(np.array([task["wind"] for task in tasks]), 75)
    assert bounds[-1] == 75 + 1 - 6
    assert bounds[-3] == 75 + 1 - 49
    returns = play(distribution, Steersman(), tasks, trials=1, episodes=2)
    np.testing.assert_array_equal(returns[0, :, 0], bounds)
    np.testing.assert_array_equal(returns[1, :, 0], bounds)


def test_no_policy_is_at_the_goal_before_the_bound_says(rng):
    """In winds of all kinds, going up with other actions added at random."""
    distribution = catalogue.make("wind", 30)
    tasks = distribution.sample(50, rng, "test")
    bounds = told_wind(np.array([task["wind"] for task in tasks]), 30)

    def upward(obs):
        return np.clip((np.array([0.0, 1.0]) - obs) / 0.1, -1.0, 1.0) + 0.2 * rng.standard_normal(
            obs.shape
        )

    assert (play(distribution, Memoryless(upward), tasks, 50)[0] <= bounds[:, None]).all()


def test_the_sweep_finds_every_goal_and_then_loses_nothing(rng):
    distribution = catalogue.make("sparse-point", 100)
    tasks = [*distribution.sample(100, rng, "test"), {"angle": 0.01}, {"angle": 3.13}]
    bounds = told_angle(np.array([task["angle"] for task in tasks]), 100)
    first, second = play(distribution, Sweeper(), tasks, 1, 2)[..., 0]
    assert (first > 40).all()
    assert (first <= bounds + 1e-4).all()
    np.testing.assert_allclose(second, bounds, atol=1e-2)
