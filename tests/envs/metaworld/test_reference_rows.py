"""The slow engine is the fast one's oracle, whole episodes long."""

import numpy as np
import pytest

from metarl.config.settings import MetaWorldConfig
from metarl.envs.metaworld.reference_rows import ReferenceRows
from metarl.errors import DivergedError
from metarl.types import Workers

STEPS = 30


@pytest.fixture
def tasks(three, rng):
    return three.sample(3, rng)


def actions():
    """Beyond the box now and then."""
    rng = np.random.default_rng(2)
    return rng.standard_normal((STEPS, 3, 2, 4)).astype(np.float32)


def steps_of(env, tasks):
    env.set_tasks(tasks)
    obs = env.reset(np.zeros((3, 2), np.uint64)).copy()
    steps = []
    for action in actions():
        steps.append(type(step := env.step(action))(*(field.copy() for field in step)))
    return obs, steps


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_both_engines_play_the_same_episodes(make, opened, tasks, workers):
    """Observations to the bit; the reference rounds parts of its rewards to single precision."""
    fast, slow = make(horizon=STEPS), make(MetaWorldConfig(engine="reference"), STEPS)
    theirs = slow.open(3, 2, Workers(workers))
    ours = opened(fast, tasks)
    try:
        # The second time every environment has another class to play.
        for order in (tasks, tasks[1:] + tasks[:1]):
            first, steps = steps_of(ours, order)
            first_of_theirs, steps_of_theirs = steps_of(theirs, order)
            np.testing.assert_array_equal(first, first_of_theirs)
            for step, their_step in zip(steps, steps_of_theirs, strict=True):
                np.testing.assert_array_equal(step.obs, their_step.obs)
                np.testing.assert_array_equal(step.success, their_step.success)
                np.testing.assert_array_equal(step.terminated, their_step.terminated)
                np.testing.assert_array_equal(step.truncated, their_step.truncated)
                np.testing.assert_allclose(step.rewards, their_step.rewards, atol=1e-5)
            assert steps[-1].truncated.all()
    finally:
        theirs.close()


@pytest.mark.parametrize("value", [1e12, np.nan])
def test_an_unstable_simulation_is_named(make, opened, three, rng, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where MuJoCo leaves its log
    tasks = three.sample(3, rng)
    env = opened(make(MetaWorldConfig(engine="reference"), STEPS), tasks, 1, 0)
    env.reset(np.zeros((3, 1), np.uint64))
    env.step(np.zeros((3, 1, 4), np.float32))
    env.executor._share._envs[1]._env.data.qvel[0] = value
    with pytest.raises(DivergedError, match="peg-insert-side-v3") as caught:
        env.step(np.zeros((3, 1, 4), np.float32))
    error = caught.value
    assert (error.task, error.episode, error.step) == (tasks[1], 0, 2)
    assert not list(tmp_path.iterdir()), "MuJoCo left a log"


def test_actions_beyond_the_box_count_as_its_edge():
    """Rewards v1 read the gripper's action as it is given."""
    rows = ReferenceRows({}, "v1", STEPS)
    given = np.array([[-3, 0.5, 1, 2], [0, -1.5, 1.5, -2]], np.float32)
    decoded = rows.decode(given)
    np.testing.assert_array_equal(decoded, [[-1, 0.5, 1, 1], [0, -1, 1, -1]])
    assert decoded.dtype == np.float32


@pytest.mark.slow
def test_rewards_of_version_1_are_the_references(make, opened, tasks):
    """The same physics, other rewards."""
    old = make(MetaWorldConfig(rewards="v1"), STEPS)
    first, steps = steps_of(opened(make(horizon=STEPS), tasks), tasks)
    first_of_old, steps_of_old = steps_of(opened(old, tasks, 2, 0), tasks)
    np.testing.assert_array_equal(first, first_of_old)
    np.testing.assert_array_equal(steps[-1].obs, steps_of_old[-1].obs)
    for step, old_step in zip(steps, steps_of_old, strict=True):
        assert np.isfinite(old_step.rewards).all()
        assert (np.abs(step.rewards - old_step.rewards) > 1e-3).all()
