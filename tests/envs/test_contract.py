"""The contract that every entry of the catalogue keeps."""

import json

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from metarl.envs import catalogue
from metarl.types import Workers

NAMES = [
    *(
        name
        for name in catalogue.names()
        if not catalogue.FAMILIES[name.partition(":")[0]].metaworld
    ),
    "ml1:basketball-v3",  # tests/envs/metaworld has the other classes, and several at once
]
K, E, HORIZON = 2, 3, 5
AS_SAMPLED = {
    **dict.fromkeys(
        ("half-cheetah-vel:varibad", "half-cheetah-vel:wide", "half-cheetah-dir:varibad"), 0.05
    ),
    "half-cheetah-gravity": 0.1,
    "ant-dir:varibad": 0.5,
    "ant-dir:2d": 0.5,
    "ant-goal": 0.1,
    "humanoid-dir": 0.1 * 0.4**2,
    "walker-params": 0.001,
    "hopper-params": 0.001,
    "reacher-goal": 1.0,
}
"""Weight of ||a||^2 in the rewards of robots that charge for the action as sampled."""


def seeds(first=0):
    return np.arange(first, first + K * E, dtype=np.uint64).reshape(K, E)


@pytest.fixture(params=NAMES)
def distribution(request):
    return catalogue.make(request.param, HORIZON)


@pytest.fixture
def env(distribution):
    env = distribution.open(K, E, Workers(1))
    env.set_tasks(distribution.sample(K, np.random.default_rng(0)))
    yield env
    env.close()


def actions_of(distribution, rng, scale=1.0):
    if isinstance(distribution.spec.action_space, Discrete):
        return rng.integers(distribution.spec.action_space.n, size=(K, E, 1))
    return (scale * rng.standard_normal((K, E, distribution.spec.act_dim))).astype(np.float32)


def play(env, distribution, seed=1):
    """The steps of an episode under random actions."""
    rng = np.random.default_rng(seed)
    env.reset(seeds())
    return [env.step(actions_of(distribution, rng)) for _ in range(HORIZON)]


def test_spec_says_what_is_observed(distribution, env):
    obs = env.reset(seeds())
    assert obs.shape == (K, E, distribution.spec.obs_dim)
    assert obs.dtype == np.float32
    assert np.isfinite(obs).all()
    assert distribution.spec.horizon == HORIZON
    assert distribution.spec.name in NAMES


def test_step_has_the_promised_shapes_and_types(distribution, env, rng):
    env.reset(seeds())
    step = env.step(actions_of(distribution, rng))
    assert step.obs.shape == (K, E, distribution.spec.obs_dim)
    assert step.obs.dtype == step.rewards.dtype == np.float32
    for field in (step.rewards, step.terminated, step.truncated, step.success):
        assert field.shape == (K, E)
    for field in (step.terminated, step.truncated, step.success):
        assert field.dtype == bool


def test_truncation_comes_exactly_at_the_horizon(distribution, env):
    over = np.zeros((K, E), dtype=bool)
    for t, step in enumerate(play(env, distribution), 1):
        assert not (step.terminated & step.truncated).any()
        over |= step.terminated
        expected = ~over if t == HORIZON else np.zeros_like(over)
        np.testing.assert_array_equal(step.truncated & ~over, expected)


def test_reset_depends_on_its_tasks_and_seeds_alone(distribution, env, rng):
    first = env.reset(seeds())
    env.step(actions_of(distribution, rng))
    np.testing.assert_array_equal(env.reset(seeds()), first)
    swapped = env.reset(seeds()[:, ::-1])
    np.testing.assert_array_equal(swapped, first[:, ::-1])


def test_an_episode_is_the_same_a_second_time(distribution, env):
    once, again = play(env, distribution), play(env, distribution)
    for step, step_again in zip(once, again, strict=True):
        for field, field_again in zip(step, step_again, strict=True):
            assert field.tobytes() == field_again.tobytes()


def test_returned_arrays_are_the_callers(distribution, env, rng):
    """A collector that keeps them must not see them change."""
    obs = env.reset(seeds())
    kept = obs.copy()
    step = env.step(actions_of(distribution, rng))
    fields = [field.copy() for field in step]
    env.step(actions_of(distribution, rng))
    np.testing.assert_array_equal(obs, kept)
    for field, copy in zip(step, fields, strict=True):
        np.testing.assert_array_equal(field, copy)


def test_actions_beyond_the_box_count_as_its_edge(distribution, env):
    """Some robots charge for the action as sampled; only their simulator clips."""
    box = distribution.spec.action_space
    if not isinstance(box, Box):
        pytest.skip("a choice has nothing beyond it")
    edge = np.broadcast_to(box.high, (K, E, *box.shape))
    env.reset(seeds())
    at_edge = env.step(edge)
    env.reset(seeds())
    beyond = env.step(3.0 * edge)
    np.testing.assert_array_equal(at_edge.obs, beyond.obs)
    weight = AS_SAMPLED.get(distribution.spec.name, 0.0)
    charged = weight * (3.0**2 - 1.0) * distribution.spec.act_dim
    np.testing.assert_allclose(at_edge.rewards - beyond.rewards, charged, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("draw", ["random", "stratified"])
def test_tasks_are_plain_numbers(distribution, split, draw):
    tasks = distribution.sample(7, np.random.default_rng(0), split, draw)
    assert json.loads(json.dumps(tasks)) == [dict(task) for task in tasks]
    assert len(tasks) == 7
    assert tasks == distribution.sample(7, np.random.default_rng(0), split, draw)
    assert all(0 < len(distribution.describe(task)) < 20 for task in tasks)


def test_wrong_number_of_tasks_is_refused(distribution, env):
    with pytest.raises(ValueError, match="3 tasks"):
        env.set_tasks(distribution.sample(3, np.random.default_rng(0)))


def test_unknown_split_or_draw_is_refused(distribution):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="'validation' is no split"):
        distribution.sample(2, rng, "validation")
    with pytest.raises(ValueError, match="'sobol' is no way to draw"):
        distribution.sample(2, rng, "train", "sobol")


def test_tasks_do_not_leak_into_one_another(distribution):
    """A task played alone gives the bytes that it gives beside another."""
    tasks = distribution.sample(K, np.random.default_rng(5), draw="stratified")
    rng = np.random.default_rng(1)
    actions = [actions_of(distribution, rng, 0.3) for _ in range(HORIZON)]

    def rewards_and_obs(tasks, rows):
        env = distribution.open(len(tasks), E, Workers(1))
        env.set_tasks(tasks)
        env.reset(seeds()[rows])
        steps = [env.step(action[rows]) for action in actions]
        env.close()
        return b"".join(step.rewards.tobytes() + step.obs.tobytes() for step in steps)

    def one_by_one(k):
        return rewards_and_obs(tasks[k : k + 1], slice(k, k + 1))

    def within_both(k):
        env = distribution.open(K, E, Workers(1))
        env.set_tasks(tasks)
        env.reset(seeds())
        steps = [env.step(action) for action in actions]
        env.close()
        return b"".join(step.rewards[k].tobytes() + step.obs[k].tobytes() for step in steps)

    for k in range(K):
        assert one_by_one(k) == within_both(k)
