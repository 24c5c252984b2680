"""Walkers and hoppers of other masses, inertias, dampings and frictions, against gymnasium."""

# pyright: reportAttributeAccessIssue=false
# (mujoco's C++ modules come without stubs)

import json

import gymnasium
import numpy as np
import pytest

from metarl.envs import catalogue, given_tasks
from metarl.envs.mujoco.factors import FIELDS
from metarl.envs.mujoco.planar_walkers import HOPPER, WALKER, load_model
from metarl.envs.mujoco.tasks import model_path
from metarl.envs.task_conditioned import TaskConditioned
from metarl.errors import UserError
from metarl.types import Workers

ROBOTS = {"walker-params": ("Walker2d-v5", WALKER), "hopper-params": ("Hopper-v5", HOPPER)}


def changed(model, original, task):
    """Sets the fields of a model as rand_param_envs does: each entry times its factor."""
    for key, (field, base) in FIELDS.items():
        values = getattr(original, field).copy()
        flat = values.reshape(-1)
        flat[np.flatnonzero(flat)] *= base ** np.ravel(task[key])
        getattr(model, field)[:] = values


@pytest.mark.parametrize("name", ROBOTS)
def test_steps_are_gymnasiums(opened, rng, name):
    """With the task's numbers in its model and the old timestep: observation, reward and end, also
    where other episodes have ended before."""
    env = opened(name, 4, 3)
    theirs = gymnasium.make(
        ROBOTS[name][0], xml_file=model_path(ROBOTS[name][1].file), frame_skip=4
    ).unwrapped
    theirs.model.opt.timestep = 0.004
    theirs.reset(seed=0)
    original, over, steps = load_model(ROBOTS[name][1]), np.zeros((4, 3), bool), 0
    while not over.all() and steps < 40:
        actions = rng.normal(0.0, 0.7, (4, 3, env.spec.act_dim)).astype(np.float32)
        before = env.batch.qpos.copy(), env.batch.qvel.copy()
        step = env.step(actions)
        steps += 1
        for row in np.flatnonzero(~over):
            k, e = divmod(row, 3)
            changed(theirs.model, original, env.tasks[k])
            theirs.set_state(before[0][row], before[1][row])
            theirs.data.qacc_warmstart[:] = 0.0
            obs, reward, terminated, _, _ = theirs.step(actions[k, e])
            np.testing.assert_allclose(step.obs[k, e], obs, atol=1e-5, rtol=1e-5)
            paid = float(reward) + terminated  # the old code pays 1 for the step of a fall, too
            np.testing.assert_allclose(step.rewards[k, e], paid, atol=1e-5)
            assert step.terminated[k, e] == terminated
        over |= step.terminated
    assert over.any(), "some must have fallen for the ends to be tested"
    assert steps > 1


@pytest.mark.parametrize(("name", "numbers"), [("walker-params", 58), ("hopper-params", 34)])
def test_tasks_are_the_entries_that_are_not_zero(rng, name, numbers):
    distribution = catalogue.make(name, 200)
    (task,) = distribution.sample(1, rng)
    assert json.loads(json.dumps(task)) == task
    model = load_model(ROBOTS[name][1])
    counts = [np.count_nonzero(getattr(model, field)) for field, _ in FIELDS.values()]
    assert [np.size(task[key]) for key in FIELDS] == counts
    assert sum(counts) == numbers
    drawn = np.array([np.ravel(x["log_friction"]) for x in distribution.sample(400, rng)])
    assert np.allclose(np.quantile(drawn, [0, 0.5, 1]), [-3, 0, 3], atol=0.15)


@pytest.mark.parametrize("name", ROBOTS)
def test_an_oracle_observes_the_tasks_numbers(name, rng):
    distribution = TaskConditioned(catalogue.make(name, 10))
    tasks = distribution.sample(2, rng)
    env = distribution.open(2, 1, Workers(0))
    env.set_tasks(tasks)
    obs = env.reset(np.arange(2, dtype=np.uint64)[:, None])
    shown = [[x for key in sorted(task) for x in np.ravel(task[key])] for task in tasks]
    np.testing.assert_allclose(obs[:, 0, -distribution.width :], shown, rtol=1e-6)
    env.close()


def test_a_task_of_zeros_is_the_robot_as_it_is(opened, rng):
    env = opened("walker-params", 2, 1)
    zeros = {key: (0 * np.asarray(value)).tolist() for key, value in env.tasks[0].items()}
    env.set_tasks([zeros, env.tasks[1]])
    for field, _ in FIELDS.values():
        ours = [getattr(model, field) for model in env.batch._models]
        np.testing.assert_array_equal(ours[0], getattr(load_model(WALKER), field))
        assert not np.array_equal(ours[1], ours[0])


def test_a_hopper_whose_velocity_runs_away_ends(opened):
    env = opened("hopper-params", 1, 3)
    env.batch.qvel[0, 0], env.batch.qpos[1, 1] = 150.0, 0.5
    step = env.step(np.zeros((1, 3, 3)))
    np.testing.assert_array_equal(step.terminated, [[True, True, False]])


def word(task, **other):
    return json.dumps({**task, **other})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"log_mass": [0.0, 0.0]}, "expected a list of 7 values"),
        ({"log_mass": 1.0}, "expected a list of 7 values"),
        ({"log_inertia": [[0.0] * 2] * 7}, "expected a list of 3 values"),
        ({"log_damping": ["x"] * 6}, "expected a number"),
        ({"log_size": [0.0]}, "'log_size' is no key"),
    ],
)
def test_a_task_of_another_shape_is_refused(rng, other, message):
    distribution = catalogue.make("walker-params", 200)
    (task,) = distribution.sample(1, rng)
    with pytest.raises(UserError, match=message) as raised:
        given_tasks.parsed([word(task, **other)], distribution)
    assert len(str(raised.value).splitlines()) <= 3
    assert len(str(raised.value)) < 600


def test_numbers_that_are_no_factor_are_refused(opened):
    env = opened("walker-params", 1, 1)
    far = {**env.tasks[0], "log_mass": [1e5] * 7}
    with pytest.raises(UserError, match=r"1\.5\^100000 is no factor"):
        env.set_tasks([far])
    with pytest.raises(UserError, match=r"log_mass of a task has the shape \[2\]"):
        env.set_tasks([{**far, "log_mass": [0.0, 0.0]}])


def test_the_walkers_models(rng):
    """Read off rand_param_envs: timestep 0.004, frictions 0.9 of a foot and 1.9 of the left one."""
    for robot in (WALKER, HOPPER):
        assert load_model(robot).opt.timestep == 0.004
    model = load_model(WALKER)
    assert [model.geom(f"foot{side}_geom").friction[0] for side in ("", "_left")] == [0.9, 1.9]
