"""The engine: threads, isolation, instability."""

import numpy as np
import pytest

from metarl.errors import DivergedError

NAMES = ["half-cheetah-vel:maml2017", "half-cheetah-dir:varibad", "ant-vel:maml2017"]
NEW = ["half-cheetah-gravity", "ant-goal", "humanoid-dir", "walker-params", "reacher-goal"]


def play(env, steps, seed=0):
    """All the bytes of `steps` steps under random actions."""
    rng = np.random.default_rng(seed)
    width = env.batch.model.nu
    taken = [env.step(rng.standard_normal((*env.shape, width))) for _ in range(steps)]
    return b"".join(field.tobytes() for step in taken for field in step)


@pytest.mark.parametrize("name", [*NAMES, *NEW])
def test_threads_do_not_change_a_byte(opened, name):
    steps = 30 if name in NAMES else 12
    one, two, three = (play(opened(name, 4, 5, threads), steps) for threads in (1, 2, 3))
    assert one == two == three


def test_one_simulation_of_many_is_the_one_alone(opened):
    many, alone = opened(NAMES[0], 3, 7), opened(NAMES[0], 1, 1)
    alone.set_tasks(many.tasks[2:])
    alone.reset(np.array([[2 * 7 + 4]], np.uint64))
    rng = np.random.default_rng(0)
    for _ in range(50):
        actions = rng.standard_normal((3, 7, 6))
        step, step_alone = many.step(actions), alone.step(actions[2:, 4:5])
        assert step.obs[2, 4].tobytes() == step_alone.obs[0, 0].tobytes()
        assert step.rewards[2, 4].tobytes() == step_alone.rewards[0, 0].tobytes()


@pytest.mark.parametrize("name", [*NAMES, *NEW])
@pytest.mark.parametrize("value", [1e9, 1e12, np.nan, np.inf])
@pytest.mark.parametrize("steps_before", [0, 2])
def test_an_unstable_simulation_is_named(opened, name, value, steps_before, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == "reacher-goal" and value == 1e9:
        pytest.skip("an arm without contacts may turn so fast")
    env = opened(name, 2, 3)
    still = np.zeros((2, 3, env.batch.model.nu))
    for _ in range(steps_before):
        env.step(still)
    env.batch.qvel[4] = value
    with pytest.raises(DivergedError) as caught:
        env.step(still)
    error = caught.value
    assert (error.task, error.episode, error.step) == (env.tasks[1], 1, steps_before + 1)
    assert name in str(error)
    assert not list(tmp_path.iterdir()), "MuJoCo must not leave its log where one works"


def test_a_state_of_no_number_is_unstable(opened):
    """As an integrator's later stages, which MuJoCo does not check, could leave it."""
    batch = opened(NAMES[2]).batch
    batch.qvel[4, 2] = np.nan
    assert batch._unstable(batch._state).tolist() == [4]


def test_after_a_divergence_a_reset_starts_afresh(opened):
    env = opened(NAMES[0])
    seeds = np.arange(6, dtype=np.uint64).reshape(2, 3)
    expected = play(env, 5)
    env.batch.qvel[4] = 1e9
    with pytest.raises(DivergedError):
        env.step(np.zeros((2, 3, 6)))
    env.reset(seeds)
    assert play(env, 5) == expected


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_action_that_is_not_finite_is_refused(opened, value):
    env = opened(NAMES[0])
    actions = np.zeros((2, 3, 6))
    actions[1, 2, 0] = value
    with pytest.raises(FloatingPointError, match="episode 2, step 1"):
        env.step(actions)


def test_a_reset_forgets_the_last_control(opened):
    """Contact forces of a start, which are observed, would depend on it."""
    env = opened("ant-goal")
    env.step(np.ones((2, 3, 8)))
    assert env.batch._control.all()
    env.reset(np.arange(6, dtype=np.uint64).reshape(2, 3))
    assert not env.batch._control.any()
    assert env.live is None


def test_each_simulation_has_the_model_of_its_task(opened):
    """Equal neighbours share one; the next tasks use the same copies."""
    env = opened("half-cheetah-gravity", 3, 2)
    env.set_tasks([{"gravity": g} for g in (5.0, 5.0, 9.0)])
    models = env.batch._models.tolist()
    assert [-model.opt.gravity[2] for model in models] == [5.0] * 4 + [9.0] * 2
    assert len(set(map(id, models))) == 2
    env.set_tasks([{"gravity": g} for g in (6.0, 7.0, 8.0)])
    again = env.batch._models.tolist()
    assert [-model.opt.gravity[2] for model in again] == [6.0] * 2 + [7.0] * 2 + [8.0] * 2
    assert set(map(id, models)) < set(map(id, again))
    assert env.batch.model.opt.gravity[2] == -9.81
