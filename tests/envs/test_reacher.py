"""The arms against gymnasium, and a policy that is told the goal."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

import gymnasium
import mujoco
import numpy as np
import pytest

from metarl.envs.mujoco.reacher import LINKS, fingertip


def test_a_step_is_gymnasiums(opened, rng):
    """Reacher-v5 in the state after a step, from the same state and action."""
    env = opened("reacher-goal", 2, 5)
    theirs = gymnasium.make("Reacher-v5").unwrapped
    theirs.reset(seed=0)
    for _ in range(4):
        actions = rng.normal(0.0, 1.0, (2, 5, 2)).astype(np.float32)
        before = env.batch.qpos.copy(), env.batch.qvel.copy()
        step = env.step(actions)
        for row in range(10):
            k, e = divmod(row, 5)
            np.testing.assert_array_equal(before[0][row, 2:], env.tasks[k]["goal"])
            theirs.set_state(before[0][row], before[1][row])
            theirs.do_simulation(actions[k, e], 2)
            mujoco.mj_forward(theirs.model, theirs.data)
            obs, (reward, _) = theirs._get_obs(), theirs._get_rew(actions[k, e])
            ours = step.obs[k, e]
            np.testing.assert_allclose(ours[:4], obs[:4], atol=1e-6)
            np.testing.assert_allclose(ours[4:6], obs[6:8], atol=1e-4, rtol=1e-5)
            np.testing.assert_allclose(ours[6:] - env.tasks[k]["goal"], obs[8:], atol=1e-6)
            np.testing.assert_allclose(step.rewards[k, e], reward, atol=1e-5)


def joints(goal):
    """Angles that bring the fingertip to places [..., 2]: the law of cosines."""
    a, b = LINKS
    far = np.hypot(goal[..., 0], goal[..., 1])
    elbow = np.arccos(np.clip((far**2 - a**2 - b**2) / (2 * a * b), -1.0, 1.0))
    first = np.arctan2(goal[..., 1], goal[..., 0])
    first -= np.arctan2(b * np.sin(elbow), a + b * np.cos(elbow))
    return np.stack([(first + np.pi) % (2 * np.pi) - np.pi, elbow], axis=-1)


def test_the_fingertip_reaches_every_goal_that_is_not_in_the_arm(rng):
    goals = rng.uniform(-0.14, 0.14, (50, 2))
    goals = goals[np.hypot(*goals.T) > 0.01]
    np.testing.assert_allclose(fingertip(joints(goals)), goals, atol=1e-12)


def played(env, gain, damping):
    """Mean return of a controller that pulls the joints towards the goal's angles."""
    K, E = env.shape
    aim = joints(env.goal)
    env.reset(np.arange(K * E, dtype=np.uint64).reshape(K, E))
    total = 0.0
    for _ in range(env.spec.horizon):
        off = (aim - env.batch.qpos[:, :2] + np.pi) % (2 * np.pi) - np.pi
        pull = gain * off - damping * env.batch.qvel[:, :2]
        total += env.step(pull.reshape(K, E, 2).astype(np.float32)).rewards.mean()
    return total


def test_a_policy_that_is_told_the_goal_earns_far_more_than_one_that_stays(opened):
    env = opened("reacher-goal", 40, 2)
    told, still = played(env, 0.2, 0.04), played(env, 0.0, 0.0)
    staying = -50 * np.hypot(*(np.array([sum(LINKS), 0.0]) - env.goal).T).mean()
    assert still == pytest.approx(staying, abs=0.3)
    assert told > 0.45 * still
