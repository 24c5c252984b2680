"""The fast engine: workers, isolation, layouts, instability."""

from contextlib import nullcontext

import mujoco
import numpy as np
import pytest

from metarl.envs import catalogue
from metarl.envs.metaworld.batched import SPARE, on_this_machine
from metarl.envs.metaworld.classes import CLASSES
from metarl.envs.metaworld.goals import goals_of
from metarl.envs.metaworld.snapshots import model_path, reference, set_goal
from metarl.errors import DivergedError, EnvFaultError
from metarl.sampling.losses import WorkerWarning
from metarl.sampling.rows import BUSY

QVEL = mujoco.mjtState.mjSTATE_QVEL  # pyright: ignore[reportAttributeAccessIssue]


def actions_for(tasks, episodes=2, steps=8):
    rng = np.random.default_rng(0)
    return rng.standard_normal((steps, len(tasks), episodes, 4)).astype(np.float32)


@pytest.fixture
def tasks(three, rng):
    """Two of each class."""
    return three.sample(6, rng)


def test_workers_do_not_change_a_bit(three, tasks, opened, played):
    """Shares that end within a task, and that are cut anew by the time that they took."""
    actions, shares = actions_for(tasks, 5), []
    alone = played(opened(three, tasks, 5, 0), actions)
    for count, times in ((1, 1), (4, 3)):
        env = opened(three, tasks, 5, count)
        for _ in range(times):
            env.set_tasks(tasks)
            np.testing.assert_array_equal(played(env, actions), alone)
            if count == 4:
                shares.append(str(env.executor._shares))
    assert len(set(shares)) > 1


def test_shares_are_cut_by_the_time_that_they_took(three, tasks, opened, played):
    env, actions = opened(three, tasks, 5, 3), actions_for(tasks, 5)
    busy = env.executor.rows.pulse[:, BUSY]
    for spent, edges in (
        ([1, 1, 1], [10, 20]),
        ([4, 1, 1], [5, 10]),  # the first 10 rows took 4 of 6: 2 of 6 are due to the first 5
        ([0, 1, 1], [5, 10]),  # not stepped: as before
        ([10**9, 1, 1], [2, 3]),
        ([1, 1, 10**9], [12, 21]),
        ([1, 10**12, 1], [15, 18]),
    ):
        busy[:] = spent
        env.set_tasks(tasks)
        assert [share.start for (share,) in env.executor._shares] == [0, *edges]
        assert not busy.any()
    assert played(env, actions).shape[:2] == (6, 5)


def test_a_worker_that_is_lost_is_replaced_to_the_bit(three, tasks, opened, played):
    """Whose share is not the one that it began with."""
    actions = actions_for(tasks)
    env = opened(three, tasks, 2, 2)
    expected = played(env, actions)
    env.executor.rows.pulse[:, BUSY] = 1, 3
    env.set_tasks(tasks)
    assert env.executor._shares == [[slice(0, 8)], [slice(8, 12)]]
    shown = [env.reset(np.zeros((6, 2), np.uint64))]
    for t, action in enumerate(actions):
        if t == 4:
            env.executor._workers[0].process.kill()
        with pytest.warns(WorkerWarning, match="SIGKILL") if t == 4 else nullcontext():
            step = env.step(action)
        shown += [step.obs.copy(), step.rewards[..., None], step.success[..., None]]
    np.testing.assert_array_equal(np.concatenate(shown, axis=-1), expected)


def test_models_are_found_where_metaworld_is_installed_here():
    """As on a node of a cluster, which gets the paths of another machine."""
    path = model_path("reach-v3")
    assert on_this_machine(path) == path
    assert on_this_machine(f"/elsewhere{path}") == path


def test_an_episode_of_many_is_the_one_alone(three, tasks, opened, played):
    """Tasks of one class too, which are judged together, and take turns at the model."""
    actions = actions_for(tasks)
    together = played(opened(three, tasks), actions)
    for k in range(len(tasks)):
        for e in range(2):
            alone = played(opened(three, tasks[k : k + 1], 1), actions[:, k : k + 1, e : e + 1])
            np.testing.assert_array_equal(together[k, e], alone[0, 0])
    assert len({row[0].tobytes() for row in together}) == 6


def test_tasks_come_in_any_order(three, tasks, opened, played):
    order, actions = [4, 0, 2, 5, 1, 3], actions_for(tasks)
    mixed = played(opened(three, [tasks[k] for k in order]), actions[:, order])
    np.testing.assert_array_equal(mixed, played(opened(three, tasks), actions)[order])


def test_other_tasks_leave_nothing_of_the_former_ones(three, tasks, opened, played, rng):
    """Other goals of the same classes, and classes in other places."""
    env, actions = opened(three, tasks), actions_for(tasks)
    played(env, actions)
    for other in (three.sample(6, rng), tasks[3:] + tasks[:3], 6 * three.held_out(1)):
        env.set_tasks(other)
        found = played(env, actions)
        np.testing.assert_array_equal(found, played(opened(three, other), actions))


def test_terms_of_the_reward_are_the_references_info(three, opened):
    tasks = three.sample(3, np.random.default_rng(1))
    env, actions = opened(three, tasks), actions_for(tasks, steps=3)
    env.reset(np.zeros((3, 2), np.uint64))
    drawn, theirs = goals_of(three.splits.train), []
    for task in tasks:
        theirs.append(reference(task["class"]))
        set_goal(theirs[-1], drawn[task["class"]].rand_vecs[task["goal"]])
        theirs[-1].reset()
    for action in actions:
        rewards = env.step(action).rewards
        np.testing.assert_allclose(env.info["unscaled_reward"], rewards, rtol=1e-6)
        for k, each in enumerate(theirs):
            *_, info = each.step(np.clip(action[k, 1], -1, 1))
            assert set(env.info) == set(info) - {"grasp_success"}
            for name, values in env.info.items():
                assert values[k, 1] == pytest.approx(float(info[name]), abs=1e-5), name
    for each in theirs:
        each.close()


def test_an_episode_is_cut_at_the_horizon(make, opened):
    three = make(horizon=3)
    tasks = three.sample(3, np.random.default_rng(0))
    env = opened(three, tasks)
    for _ in range(2):
        env.reset(np.zeros((3, 2), np.uint64))
        steps = [env.step(action) for action in actions_for(tasks, steps=3)]
        assert [step.truncated.tolist() for step in steps] == [
            3 * [2 * [last]] for last in (False, False, True)
        ]
        assert not any(step.terminated.any() for step in steps)


def test_an_error_leaves_nothing_behind(three, tasks, opened, played):
    """Simulations of all three processes become unstable; one error is payload."""
    actions = actions_for(tasks)
    env = opened(three, tasks, 2, 3)
    expected = played(env, actions)
    env.reset(np.zeros((6, 2), np.uint64))
    far = np.full((6, 2, 4), 1e38, np.float32)
    own = env.executor._own.groups[0].simulations
    own._part(QVEL)[:] = np.nan
    with pytest.raises(DivergedError):
        env.step(far)
    np.testing.assert_array_equal(played(env, actions), expected)
    own._part(QVEL)[:] = np.nan
    with pytest.raises(DivergedError):
        env.step(far)
    env.set_tasks(tasks)
    np.testing.assert_array_equal(played(env, actions), expected)


def test_a_reward_that_is_no_number_is_the_environments_fault(three, tasks, opened, monkeypatch):
    env, actions = opened(three, tasks, 2, 0), actions_for(tasks)
    env.reset(np.zeros((6, 2), np.uint64))
    pushes = env.executor._share.groups[2].simulations.kind.rules
    right = type(pushes).judge

    def wrong(self, *given):
        terms = right(self, *given)
        terms.reward[1] = np.nan
        return terms

    monkeypatch.setattr(type(pushes), "judge", wrong)
    with pytest.raises(
        EnvFaultError, match=r"reward is nan; task {'class': 'push-v3'.*episode 1, "
    ):
        env.step(actions[0])


def test_models_that_are_not_needed_go(opened, goals_are_few):
    goals_are_few(1)
    names = [name for name in CLASSES if name.startswith(("push", "door"))]
    assert len(names) > 1 + SPARE + 1
    several = catalogue.make(f"metaworld:{','.join(names)}|reach-v3", 500)
    tasks = [{"class": name, "split": "train", "goal": 0} for name in names]
    env = opened(several, tasks[:1], 1, 0)
    kept = env.executor._share._models
    for name, task in zip(names, tasks, strict=True):
        env.set_tasks([task])
        assert name in kept
        assert len(kept) <= 1 + SPARE
    assert list(kept) == names[-1 - SPARE :]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_action_that_is_no_number_is_refused(three, tasks, opened, value):
    env, actions = opened(three, tasks), actions_for(tasks)
    env.reset(np.zeros((6, 2), np.uint64))
    env.step(actions[0])
    actions[1, 3, 1, 2] = value
    goal = tasks[3]["goal"]
    named = f"'peg-insert-side-v3', 'split': 'train', 'goal': {goal}.*episode 1, step 2"
    with pytest.raises(FloatingPointError, match=named):
        env.step(actions[1])


@pytest.mark.parametrize("value", [1e9, 1e12, np.nan, np.inf])
@pytest.mark.parametrize("steps_before", [0, 2])
def test_an_unstable_simulation_is_named(
    three, tasks, opened, played, value, steps_before, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    env, actions = opened(three, tasks), actions_for(tasks)
    expected = played(env, actions)
    env.reset(np.zeros((6, 2), np.uint64))
    for action in actions[:steps_before]:
        env.step(action)
    pegs = env.executor._share.groups[1]
    assert pegs.rows.tolist() == [4, 5, 6, 7]
    pegs.simulations._part(QVEL)[3] = value
    with pytest.raises(DivergedError) as caught:
        env.step(actions[0])
    error = caught.value
    assert (error.task, error.episode, error.step) == (tasks[3], 1, steps_before + 1)
    assert "peg-insert-side-v3" in str(error)
    assert not list(tmp_path.iterdir()), "MuJoCo must not leave its log where one works"
    np.testing.assert_array_equal(played(env, actions), expected)
