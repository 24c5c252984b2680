"""Tasks whose numbers are observed: which numbers, where, and what they are good for."""

import numpy as np
import pytest
from shortest_walk import best_return

from metarl.envs import catalogue
from metarl.envs.gym.parameters import Choice, Uniform
from metarl.envs.gym.tasks import gym_tasks
from metarl.envs.task_conditioned import TaskConditioned, numbers_of
from metarl.errors import UserError
from metarl.types import Workers

K, E, HORIZON = 3, 2, 4
SEEDS = np.arange(K * E, dtype=np.uint64).reshape(K, E)


@pytest.mark.parametrize("name", ["point-goal", "half-cheetah-vel:varibad", "bandit:5"])
def test_the_numbers_follow_what_was_observed_before(name, rng):
    plain = catalogue.make(name, HORIZON)
    told = TaskConditioned(plain)
    tasks = told.sample(K, np.random.default_rng(0))
    assert tasks == plain.sample(K, np.random.default_rng(0))
    assert told.describe(tasks[0]) == plain.describe(tasks[0])
    numbers = np.array([numbers_of(task) for task in tasks], np.float32)
    before, after = plain.spec, told.spec
    assert after.obs_dim == before.obs_dim + numbers.shape[1]
    assert after._replace(observation_space=before.observation_space) == before
    np.testing.assert_array_equal(
        after.observation_space.low[: before.obs_dim], before.observation_space.low
    )
    envs = [one.open(K, E, Workers()) for one in (plain, told)]
    for env in envs:
        env.set_tasks(tasks)
    obs, seen = (env.reset(SEEDS) for env in envs)
    for _ in range(HORIZON):
        assert seen.dtype == np.float32
        assert seen[0, 0] in after.observation_space
        np.testing.assert_array_equal(seen[..., : before.obs_dim], obs)
        for e in range(E):
            np.testing.assert_array_equal(seen[:, e, before.obs_dim :], numbers)
        actions = rng.integers(2, size=(K, E, before.act_dim))
        step, step_told = (env.step(actions) for env in envs)
        np.testing.assert_array_equal(step.rewards, step_told.rewards)
        obs, seen = step.obs, step_told.obs
    for env in envs:
        env.close()


def test_who_is_told_walks_straight():
    """The best possible return of every held-out goal, by what is observed alone."""
    plain = catalogue.make("point-goal", 20)
    told = TaskConditioned(plain)
    tasks = told.sample(20, np.random.default_rng(1), "test")
    env = told.open(20, 1, Workers())
    env.set_tasks(tasks)
    obs = env.reset(np.zeros((20, 1), np.uint64))
    total, playing = np.zeros((20, 1)), np.ones((20, 1), bool)
    for _ in range(20):
        step = env.step((obs[..., 2:] - obs[..., :2]) / 0.1)
        total += playing * step.rewards
        playing &= ~step.terminated
        obs = step.obs
    best = [best_return(task, 20) for task in tasks]
    np.testing.assert_allclose(total[:, 0], best, atol=0.0101)


def test_numbers_by_hand():
    """By the order of names, whatever the task's own; flattened; True is one."""
    task = {"b": [[1, 2.5], (3,)], "a": np.array([[7.0], [8.0]]), "c": {"z": True, "y": -1}}
    assert numbers_of(task) == [7.0, 8.0, 1.0, 2.5, 3.0, -1.0, 1.0]


def test_environments_of_gymnasium_are_told_too():
    told = TaskConditioned(gym_tasks("CartPole-v1", {"gravity": Uniform(5, 15)}, horizon=HORIZON))
    env = told.open(K, E, Workers())
    tasks = told.sample(K, np.random.default_rng(0))
    env.set_tasks(tasks)
    seen = env.reset(SEEDS)
    assert seen.shape == (K, E, 5)
    np.testing.assert_allclose(seen[:, 1, 4], [task["gravity"] for task in tasks], rtol=1e-6)
    env.close()


@pytest.mark.parametrize(
    ("distribution", "what"),
    [
        (catalogue.make("ml1:reach-v3", HORIZON), "the index of a goal"),
        (catalogue.make("tabular-mdp", HORIZON), "task's mdp is [0-9]+: an index of tasks"),
        (
            gym_tasks("FrozenLake-v1", {"map_name": Choice(["4x4", "8x8"])}, horizon=HORIZON),
            "task's map_name is '[48]x[48]', not a number",
        ),
    ],
)
def test_what_numbers_do_not_tell_is_refused_in_two_lines(distribution, what):
    with pytest.raises(UserError, match=what) as refused:
        TaskConditioned(distribution)
    assert str(refused.value).count("\n") == 1


def test_tasks_of_other_lengths_are_refused():
    env = TaskConditioned(catalogue.make("point-goal", HORIZON)).open(1, 1, Workers())
    env.set_tasks([{"goal": [0.1, 0.2]}])
    with pytest.raises(UserError, match="has 3 numbers, another had 2"):
        env.set_tasks([{"goal": [0.1, 0.2], "mass": 1.0}])
