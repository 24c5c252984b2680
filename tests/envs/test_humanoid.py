"""The humanoids against plain MuJoCo and gymnasium."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

import gymnasium
import mujoco
import numpy as np

from metarl.envs.mujoco.humanoid import WIDTHS, load_model


def settled(data, qpos, qvel, control):
    """The observation after a trailing mj_forward, and the centre of mass [2]."""
    data.qpos[:], data.qvel[:], data.ctrl[:] = qpos, qvel, control
    data.qacc_warmstart[:] = 0.0
    mujoco.mj_forward(data.model, data)
    mujoco.mj_rnePostConstraint(data.model, data)
    parts = [data.qpos[2:], data.qvel, data.cinert, data.cvel, data.qfrc_actuator, data.cfrc_ext]
    return np.concatenate([np.ravel(part) for part in parts]), data.subtree_com[0, :2].copy()


def test_episodes_by_hand(opened, rng):
    """MuJoCo alone clips; the cost is that of 0.4 times the action as it is. Some fall before the
    others."""
    env = opened("humanoid-dir", 2, 3, horizon=40)
    obs = env.reset(np.arange(6, dtype=np.uint64).reshape(2, 3))
    model = load_model()
    assert model.opt.timestep == 0.003
    scratch, simulations = mujoco.MjData(model), [mujoco.MjData(model) for _ in range(6)]
    for row, data in enumerate(simulations):
        data.qpos[:], data.qvel[:] = env.batch.qpos[row], env.batch.qvel[row]
    over, touched, control = np.zeros(6, bool), 0, np.zeros(17)
    for t in range(40):
        actions = rng.normal(0.0, [0.4, 2.0][t % 2], (2, 3, 17)).astype(np.float32)
        step = env.step(actions)
        for row in np.flatnonzero(~over):
            data, k, e = simulations[row], row // 3, row % 3
            control = 0.4 * actions[k, e].astype(np.float64)
            clipped = np.clip(control, -0.4, 0.4)
            if t == 0:
                seen, centre = settled(scratch, data.qpos, data.qvel, np.zeros(17))
                np.testing.assert_allclose(obs[k, e], seen, rtol=1e-4, atol=1e-4)
            _, centre = settled(scratch, data.qpos, data.qvel, clipped)
            data.ctrl[:], data.qacc_warmstart[:] = control, 0.0
            mujoco.mj_step(model, data, 5)
            np.testing.assert_allclose(env.batch.qpos[row], data.qpos, atol=1e-6)
            seen, after = settled(scratch, data.qpos, data.qvel, clipped)
            scale = 1.0 + np.abs(seen)
            np.testing.assert_allclose(step.obs[k, e] / scale, seen / scale, atol=1e-4)
            angle, forces = env.tasks[k]["angle"], seen[-84:]
            impact = min(0.5e-6 * (forces**2).sum(), 10.0)
            along = (after - centre) @ (np.cos(angle), np.sin(angle))
            reward = 0.25 * along / 0.003 - 0.1 * (control**2).sum() - impact + 5.0
            np.testing.assert_allclose(step.rewards[k, e], reward, rtol=1e-3, atol=1e-3)
            fallen = not 1.0 <= data.qpos[2] <= 2.0
            assert step.terminated[k, e] == fallen
            over[row] |= fallen
            touched += np.abs(forces).max() > 1.0
    assert over.any()
    assert touched > 20


def test_observations_are_gymnasiums(opened, rng):
    """Humanoid-v5 in the state after a step, which is the one that it reaches itself."""
    env = opened("humanoid-dir", 1, 5)
    theirs = gymnasium.make("Humanoid-v5").unwrapped
    theirs.reset(seed=0)
    starts = np.cumsum([0, *WIDTHS])
    world = {2: 10, 3: 6, 5: 6}  # numbers of the world's row, by part
    for _ in range(3):
        actions = rng.uniform(-1, 1, (1, 5, 17)).astype(np.float32)
        before = env.batch.qpos.copy(), env.batch.qvel.copy()
        obs = env.step(actions).obs[0]
        for row in range(5):
            theirs.set_state(before[0][row], before[1][row])
            theirs.data.qacc_warmstart[:] = 0.0
            theirs.step(0.4 * actions[0, row])
            np.testing.assert_allclose(env.batch.qpos[row], theirs.data.qpos, atol=1e-6)
            theirs.data.qacc_warmstart[:] = 0.0
            mujoco.mj_forward(theirs.model, theirs.data)
            mujoco.mj_rnePostConstraint(theirs.model, theirs.data)
            parts = [
                obs[row, starts[part] + world.get(part, 0) : starts[part + 1]] for part in range(4)
            ]
            parts += [obs[row, starts[4] + 6 : starts[5]], obs[row, starts[5] + 6 :]]
            expected = theirs._get_obs()
            scale = 1.0 + np.abs(expected)
            np.testing.assert_allclose(np.concatenate(parts) / scale, expected / scale, atol=1e-4)


def test_actions_of_one_are_the_models_full_control(opened):
    env = opened("humanoid-dir", 1, 2)
    env.step(np.stack([np.ones(17), np.full(17, -3.0)])[None])
    np.testing.assert_allclose(env._control, [[0.4] * 17, [-0.4] * 17])
