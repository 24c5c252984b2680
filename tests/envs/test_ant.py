"""The ants against plain MuJoCo and gymnasium."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

import gymnasium
import mujoco
import numpy as np
import pytest

from metarl.envs import catalogue, given_tasks
from metarl.envs.mujoco.ant import VARIANTS, load_model

OLD = ("maml2017", "gymnasium")


def settle(data, qpos, qvel, control):
    """A trailing mj_forward: contact forces [bodies, 6] and subtree velocity [3] of a state."""
    model = data.model
    data.qpos[:], data.qvel[:], data.ctrl[:] = qpos, qvel, control
    data.qacc_warmstart[:] = 0.0
    mujoco.mj_forward(model, data)
    mujoco.mj_rnePostConstraint(model, data)
    mujoco.mj_subtreeVel(model, data)
    return data.cfrc_ext.copy(), data.subtree_linvel[1].copy()


def test_one_step_is_gymnasiums(opened, rng):
    """Ant-v5 without contact forces in the observation, from the same state and action.

    Its x_velocity reads body positions that the last Runge-Kutta stage left behind; what its
    own qpos moved by, over dt, is the velocity meant.
    """
    env = opened("ant-dir:gymnasium", 1, 20)
    theirs = gymnasium.make("Ant-v5", include_cfrc_ext_in_observation=False).unwrapped
    theirs.reset(seed=0)
    for _ in range(4):
        actions = rng.uniform(-1, 1, (1, 20, 8)).astype(np.float32)
        before = env.batch.qpos.copy(), env.batch.qvel.copy()
        live = ~env._ended.copy()
        step = env.step(actions)
        for row in np.flatnonzero(live):
            theirs.set_state(before[0][row], before[1][row])
            obs, _, terminated, _, info = theirs.step(actions[0, row])
            np.testing.assert_allclose(step.obs[0, row], obs, atol=1e-6, rtol=1e-6)
            assert bool(step.terminated[0, row]) == terminated
            theirs_velocity = (info["x_position"] - before[0][row, 0]) / theirs.dt
            ours_velocity = (env.batch.qpos[row, 0] - before[0][row, 0]) / 0.05
            assert abs(ours_velocity - theirs_velocity) < 1e-6


@pytest.mark.parametrize("variant", OLD)
def test_contact_forces_are_mujocos(opened, rng, variant):
    """The massless skins feel what mj_rnePostConstraint computes."""
    env = opened(f"ant-vel:{variant}", 1, 10)
    data = mujoco.MjData(load_model(VARIANTS[variant]))
    touched = 0
    for _ in range(20):
        actions = rng.uniform(-1, 1, (1, 10, 8))
        env.step(actions)
        live = env.live if env.live is not None else np.arange(10)
        forces, velocity = env._probe.read(env.live)
        for n, row in enumerate(live):
            expected, linvel = settle(
                data, env.batch.qpos[row], env.batch.qvel[row], actions[0, row]
            )
            scale = 1.0 + np.abs(expected).max()
            np.testing.assert_allclose(forces[n] / scale, expected[1:] / scale, atol=1e-9)
            np.testing.assert_allclose(velocity[n], linvel, atol=1e-12)
            touched += np.abs(expected).max() > 1.0
    assert touched > 20, "the feet must have touched the ground for this to mean anything"


@pytest.mark.parametrize("variant", OLD)
@pytest.mark.parametrize("family", ["vel", "dir"])
def test_rewards_of_a_whole_episode_by_hand(opened, rng, family, variant):
    settings = {"maml2017": (1, 0.005, 0.05, 0.02), "gymnasium": (5, 0.5, 1.0, 0.01)}
    skip, control_cost, alive, timestep = settings[variant]
    env = opened(f"ant-{family}:{variant}", 1, 6)
    task = env.tasks[0]
    model = load_model(VARIANTS[variant])
    assert model.opt.timestep == timestep
    scratch = mujoco.MjData(model)
    simulations = []
    for row in range(6):
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:] = env.batch.qpos[row], env.batch.qvel[row]
        simulations.append(data)
    over, lengths = np.zeros(6, dtype=bool), np.zeros(6, dtype=int)
    for t in range(200):
        actions = 0.8 * rng.standard_normal((1, 6, 8))
        step = env.step(actions)
        for row in np.flatnonzero(~over):
            data, control = simulations[row], np.clip(actions[0, row], -1, 1)
            x = data.qpos[0]
            data.ctrl[:], data.qacc_warmstart[:] = control, 0.0
            mujoco.mj_step(model, data, skip)
            forces, linvel = settle(scratch, data.qpos, data.qvel, control)
            moved = (data.qpos[0] - x) / (skip * timestep)
            velocity = linvel[0] if variant == "maml2017" else moved
            aim = (
                1.0 - abs(velocity - task["velocity"])
                if family == "vel"
                else task["direction"] * velocity
            )
            cost = control_cost * (control**2).sum()
            cost += 0.0005 * (np.clip(forces, -1, 1) ** 2).sum()
            np.testing.assert_allclose(step.rewards[0, row], aim + alive - cost, atol=1e-4)
            fallen = not 0.2 <= data.qpos[2] <= 1.0
            assert step.terminated[0, row] == fallen
            assert step.truncated[0, row] == (t == 199 and not fallen)
            lengths[row] += 1
            over[row] |= fallen
    assert over.any(), "an ant must have fallen for the endings to be tested"


def test_an_ended_episode_is_left_alone(opened, rng):
    """The episode is stepped no further, ends once, and cannot diverge."""
    env = opened("ant-vel:maml2017", 1, 4)
    env.batch.qpos[2, 2] = 1.5
    step = env.step(np.zeros((1, 4, 8)))
    np.testing.assert_array_equal(step.terminated, [[False, False, True, False]])
    env.batch.qvel[2] = 1e9
    where = env.batch.qpos[2].copy()
    step = env.step(rng.standard_normal((1, 4, 8)))
    assert not step.terminated.any()
    np.testing.assert_array_equal(env.batch.qpos[2], where)


def test_the_2017_file_differs_from_gymnasiums_in_two_places():
    """Read off cbfinn/maml_rl vendor/mujoco_models/ant.xml: timestep and contact softness."""
    old, new = (load_model(VARIANTS[variant]) for variant in ("maml2017", "gymnasium"))
    assert (old.opt.timestep, new.opt.timestep) == (0.02, 0.01)
    np.testing.assert_array_equal(old.geom_solimp, [[0.8, 0.8, 0.01, 0.5, 2.0]] * old.ngeom)
    np.testing.assert_array_equal(old.geom_solref, [[0.02, 1.0]] * old.ngeom)
    assert not np.array_equal(old.geom_solimp, new.geom_solimp)


def test_the_2017_ant_starts_crouched(opened):
    env = opened("ant-vel:maml2017", 10, 20)
    crouch = [0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1]
    np.testing.assert_allclose(env.batch.qpos.mean(axis=0), crouch, atol=0.005)
    np.testing.assert_allclose(np.linalg.norm(env.batch.qpos[:, 3:7], axis=1), 1.0)
    assert env.batch.qvel.std() == pytest.approx(0.1, rel=0.05)


def test_an_episode_along_an_angle_or_to_a_goal_by_hand(opened, rng):
    """As the code of PEARL and VariBAD, with contact forces of the state after the step: MuJoCo
    alone clips, and the cost is that of the action as it is."""
    model = load_model(VARIANTS["varibad"])
    assert (model.opt.timestep, model.geom_solimp[0, 0]) == (0.01, 0.9)
    data, scratch = mujoco.MjData(model), mujoco.MjData(model)
    ends = 0
    for name in ("ant-dir:varibad", "ant-dir:2d", "ant-goal"):
        env = opened(name, 2, 4, horizon=60)
        obs = env.reset(np.arange(8, dtype=np.uint64).reshape(2, 4))
        task, goal = env.tasks[1], name == "ant-goal"
        data.qpos[:], data.qvel[:] = env.batch.qpos[6], env.batch.qvel[6]
        control = np.zeros(8)
        for t in range(60):
            forces, _ = settle(scratch, data.qpos, data.qvel, control)
            forces = np.clip(forces, -1, 1)
            seen = [data.qpos, data.qvel, forces.ravel()] if goal else [data.qpos[2:], data.qvel]
            np.testing.assert_allclose(obs[1, 2], np.concatenate(seen), rtol=1e-4, atol=1e-4)
            if t == 59:
                break
            actions = rng.normal(0.0, [0.3, 2.0][t % 2], (2, 4, 8)).astype(np.float32)
            action, before = actions[1, 2].astype(np.float64), data.qpos[:2].copy()
            control = np.clip(action, -1, 1)
            data.ctrl[:], data.qacc_warmstart[:] = action, 0.0
            mujoco.mj_step(model, data, 5)
            step = env.step(actions)
            forces, _ = settle(scratch, data.qpos, data.qvel, control)
            contact = 0.0005 * (np.clip(forces, -1, 1) ** 2).sum()
            if goal:
                reward = -np.abs(data.qpos[:2] - task["goal"]).sum() - 0.1 * (action**2).sum()
            else:
                along = np.cos(task["angle"]), np.sin(task["angle"])
                reward = (data.qpos[:2] - before) @ along / 0.05 - 0.5 * (action**2).sum() + 1.0
            np.testing.assert_allclose(step.rewards[1, 2], reward - contact, rtol=1e-4, atol=1e-4)
            fallen = not 0.2 <= data.qpos[2] <= 1.0
            assert step.terminated[1, 2] == (fallen and not goal)
            ends += fallen
            if fallen and not goal:
                break
            obs = step.obs
    assert ends


def test_angles_and_goals(rng):
    """0 and pi alone; U(0, 2 pi); and a disc of 3 m that is evenly filled, in other sectors."""
    two, plane, goal = (
        catalogue.make(x, 200) for x in ("ant-dir:varibad", "ant-dir:2d", "ant-goal")
    )
    assert {task["angle"] for task in two.sample(50, rng)} == {0.0, np.pi}
    angles = np.array([task["angle"] for task in plane.sample(4000, rng)])
    assert np.allclose(
        np.quantile(angles, [0.0, 0.25, 0.75, 1.0]) / np.pi, [0, 0.5, 1.5, 2], atol=0.05
    )
    for split, other in (("train", "test"), ("test", "train")):
        goals = np.array([task["goal"] for task in goal.sample(4000, rng, split)])
        squares = (goals**2).sum(axis=1)
        assert np.allclose(np.quantile(squares, [0.0, 0.5, 1.0]), [0, 4.5, 9], atol=0.3)
        assert np.abs(goals.mean(axis=0)).max() < 0.1
        sectors = np.floor(np.arctan2(goals[:, 1], goals[:, 0]) / (2 * np.pi) * 1024) % 1024
        assert ((sectors % 4 == 3) == (split == "test")).mean() > 0.999, other


def test_varibads_own_angles_may_be_given(opened):
    """Its code takes +1 and -1 as radians."""
    distribution = catalogue.make("ant-dir:varibad", 200)
    (task,) = given_tasks.parsed(["angle=-1"], distribution)
    assert task == {"angle": -1.0}
    assert "out of distribution" in given_tasks.remarks([task], distribution)[0]
