"""One task as Stable-Baselines3 plays it: its own checks, endings by hand, chance by seeds."""

import warnings

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env

from metarl import keys
from metarl.envs import catalogue
from metarl.envs.gym.task_vec_env import TaskEnv, TaskVecEnv
from metarl.types import Workers

NAMES = [
    *(
        name
        for name in catalogue.names()
        if not catalogue.FAMILIES[name.partition(":")[0]].metaworld
    ),
    "ml1:basketball-v3",
]
GOAL = {"goal": [0.15, 0.0]}
"""Two steps to the right of the origin."""


def first_task(distribution):
    return distribution.sample(1, np.random.default_rng(0))[0]


@pytest.mark.parametrize("name", NAMES)
def test_both_checkers_pass(name):
    distribution = catalogue.make(name, 6)
    env = TaskEnv(distribution, first_task(distribution))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if name.endswith(":promp"):  # a box of its benchmark: ten times as wide as advised
            warnings.filterwarnings("ignore", ".*symmetric and normalized Box action space")
        check_env(env)
        # Gymnasium's own has wishes besides: bounds on every observation, environments by `make`.
        warnings.simplefilter("ignore")
        gymnasium_check_env(env)
    env.close()


def test_each_copy_is_reset_where_its_own_episode_ends():
    """One walks to the goal in two steps, again and again; the other is stopped by the time."""
    env = TaskVecEnv(catalogue.make("point-goal", 3), GOAL, num_envs=2)
    np.testing.assert_array_equal(env.reset(), np.zeros((2, 2)))
    right, half, left = [1.0, 0.0], [0.5, 0.0], [-1.0, 0.0]
    walks = [env.step(np.array([first, left])) for first in (right, half, right, half)]
    obs, rewards, dones, infos = zip(*walks, strict=True)
    np.testing.assert_allclose(np.array(obs)[:, 0, 0], [0.1, 0.0, 0.1, 0.0], atol=1e-7)
    np.testing.assert_allclose(np.array(obs)[:, 1, 0], [-0.1, -0.2, 0.0, -0.1], atol=1e-7)
    np.testing.assert_allclose(np.array(rewards)[:, 0], [-0.05, 0.0, -0.05, 0.0], atol=1e-7)
    np.testing.assert_array_equal(
        np.array(dones).T, [[False, True, False, True], [False, False, True, False]]
    )
    arrived, stopped = infos[1][0], infos[2][1]
    np.testing.assert_allclose(arrived["terminal_observation"], [0.15, 0.0], atol=1e-7)
    np.testing.assert_allclose(stopped["terminal_observation"], [-0.3, 0.0], atol=1e-7)
    assert (arrived["TimeLimit.truncated"], arrived["is_success"]) == (False, True)
    assert (stopped["TimeLimit.truncated"], stopped["is_success"]) == (True, False)
    assert arrived["episode"]["r"] == pytest.approx(-0.05)


def paid(env, pulls=40):
    """Returns the second arm's rewards in several episodes of each copy, [pulls, copies]."""
    env.reset()
    return np.array([env.step(np.ones(env.num_envs, int))[1] for _ in range(pulls)])


def test_chance_is_the_seeds_the_copys_and_the_episodes():
    distribution = catalogue.make("bandit:5", 20)
    task = {"probabilities": [0.5] * 5}

    def rewards(seed):
        return paid(TaskVecEnv(distribution, task, num_envs=2, seed=seed))

    once = rewards(1)
    np.testing.assert_array_equal(once, rewards(1))
    assert (once != rewards(2)).any()
    assert (once[:, 0] != once[:, 1]).any()
    assert (once[:20] != once[20:]).any()
    again = TaskVecEnv(distribution, task, num_envs=2, seed=7)
    again.seed(4)
    first = paid(again)
    assert (first != paid(again)).any(), "a reset without a seed goes on to other episodes"
    again.seed(4)
    np.testing.assert_array_equal(first, paid(again))


def test_an_episode_is_that_of_the_batched_environment():
    distribution = catalogue.make("half-cheetah-vel:varibad", 8)
    task = first_task(distribution)
    batched = distribution.open(1, 1, Workers())
    batched.set_tasks([task])
    obs = batched.reset(keys.seeds(1, 1, 3, keys.Purpose.RESET, keys.Phase.TASK_ENV, 0, 0))
    env = TaskEnv(distribution, task, seed=3)
    np.testing.assert_array_equal(env.reset()[0], obs[0, 0])
    for action in np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32):
        expected, found = batched.step(action[None, None]), env.step(action)
        np.testing.assert_array_equal(found[0], expected.obs[0, 0])
        assert found[1] == float(expected.rewards[0, 0])
    assert found[3], "truncated at the horizon"
    batched.close()
    env.close()


def test_an_episode_that_is_over_is_not_stepped():
    env = TaskEnv(catalogue.make("point-goal", 1), GOAL)
    with pytest.raises(ResetNeeded, match="none has begun"):
        env.step(np.zeros(2))
    env.reset()
    env.step(np.zeros(2))
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(2))


def test_stable_baselines3_learns_the_task():
    """One arm of five pays: from two pulls of ten by chance to nearly all of them."""
    distribution = catalogue.make("bandit:5", 10)
    env = TaskVecEnv(distribution, {"probabilities": [0, 0, 1, 0, 0]}, num_envs=4)
    ppo = PPO("MlpPolicy", env, n_steps=20, batch_size=20, learning_rate=3e-3, seed=0, device="cpu")
    ppo.learn(800)
    assert ppo.ep_info_buffer is not None
    returns = [episode["r"] for episode in ppo.ep_info_buffer]
    assert np.mean(returns[:8]) < 5
    assert np.mean(returns[-8:]) > 9
    action, _ = ppo.predict(np.ones(1, np.float32), deterministic=True)
    assert action == 2
