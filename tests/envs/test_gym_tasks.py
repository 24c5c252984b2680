"""Gymnasium environments as task distributions: how a task reaches its environment."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

from metarl import Choice, LogUniform, Uniform, gym_tasks
from metarl.config import own_code
from metarl.envs import own_tasks
from metarl.envs.gym.attribute_paths import attribute_path
from metarl.errors import EnvFaultError, UserError
from metarl.runs.plain import plain
from metarl.sampling.rows import RowError
from metarl.types import Workers

GRAVITY = {"gravity": Uniform(5, 15)}


def row_of(distribution: Any, task: dict | None = None) -> Any:
    """One environment in a task, reset."""
    row = distribution.rows.make()
    row.set_task(task or distribution.sample(1, np.random.default_rng(0))[0])
    row.reset(1)
    return row


def returns(distribution: Any, tasks: list, steps: int = 30) -> np.ndarray:
    """Returns the returns of the same random actions in each task, [K]."""
    env = distribution.open(len(tasks), 1, Workers(0))
    env.set_tasks(tasks)
    env.reset(np.zeros((len(tasks), 1), np.uint64))
    rng, total = np.random.default_rng(2), np.zeros(len(tasks))
    for _ in range(steps):
        action = rng.standard_normal(distribution.spec.act_dim)
        step = env.step(np.broadcast_to(action, (len(tasks), 1, len(action))))
        total += step.rewards[:, 0]
    env.close()
    return total


def test_an_attribute_is_set_before_every_reset():
    row = row_of(gym_tasks("CartPole-v1", GRAVITY, horizon=20), {"gravity": 7.5})
    assert row.env.unwrapped.gravity == 7.5
    row.env.unwrapped.gravity = 1.0
    row.reset(2)
    assert row.env.unwrapped.gravity == 7.5


def test_an_argument_of_the_constructor_makes_another_environment():
    distribution = gym_tasks("Pendulum-v1", {"g": Uniform(5, 15), "m": Uniform(0.5, 2)}, horizon=9)
    row = row_of(distribution, {"g": 6.0, "m": 1.5})
    first = row.env
    assert (first.unwrapped.g, first.unwrapped.m) == (6.0, 1.5)
    row.set_task({"g": 6.0, "m": 0.7})
    row.reset(1)
    assert row.env is first, "only its mass changed"
    assert first.unwrapped.m == 0.7
    row.set_task({"g": 8.0, "m": 0.7})
    row.reset(1)
    assert row.env is not first
    assert (row.env.unwrapped.g, row.env.unwrapped.m) == (8.0, 0.7)


def test_apply_takes_the_place_of_names():
    def longer(env: gymnasium.Env, task: Any) -> None:
        pole: Any = env.unwrapped
        pole.length = task["length"]
        pole.polemass_length = pole.masspole * pole.length

    distribution = gym_tasks(
        "CartPole-v1", {"length": Uniform(0.3, 1)}, horizon=20, apply=longer, kwargs={}
    )
    pole = row_of(distribution, {"length": 0.8}).env.unwrapped
    assert (pole.length, pole.polemass_length) == (0.8, pytest.approx(0.08))


HOPPER = {
    "model.body_mass[1]": LogUniform(0.5, 2.0, relative=True),
    "model.geom_friction[:, 0]": Uniform(0.5, 2.0, relative=True),
    "model.opt.gravity[2]": Uniform(-12, -8),
}


def test_a_mujoco_models_fields_are_scaled_from_their_own_values():
    """However often; and what MuJoCo derives from them follows."""
    distribution = gym_tasks("Hopper-v5", HOPPER, horizon=10)
    own: Any = gymnasium.make("Hopper-v5").unwrapped
    heavy = dict(zip(HOPPER, (2.0, 0.5, -9.0), strict=True))
    row = row_of(distribution, heavy)
    for _ in range(3):
        row.reset(1)
        model = row.env.unwrapped.model
        assert model.body_mass[1] == pytest.approx(2.0 * own.model.body_mass[1])
        np.testing.assert_allclose(model.geom_friction[:, 0], 0.5 * own.model.geom_friction[:, 0])
        assert model.opt.gravity[2] == -9.0
        more = own.model.body_subtreemass[0] + own.model.body_mass[1]
        assert model.body_subtreemass[0] == pytest.approx(more)
    plain = dict(zip(HOPPER, (1.0, 1.0, own.model.opt.gravity[2]), strict=True))
    row.set_task(plain)
    seed = 5
    obs = row.reset(seed)
    expected, _ = own.reset(seed=seed)
    np.testing.assert_array_equal(obs, expected)
    for _ in range(10):
        action = np.array([0.3, -0.5, 0.2], np.float32)
        np.testing.assert_allclose(row.step(action)[0], own.step(action)[0], atol=1e-9)


def test_a_task_decides_an_episode_whatever_was_played_before():
    distribution = gym_tasks("Hopper-v5", HOPPER, horizon=30)
    a, b = distribution.sample(2, np.random.default_rng(1))
    alone = returns(distribution, [a])
    env = distribution.open(1, 1, Workers(0))
    env.set_tasks([b])
    env.reset(np.zeros((1, 1), np.uint64))
    env.step(np.ones((1, 1, 3)))
    env.set_tasks([a])
    env.reset(np.zeros((1, 1), np.uint64))
    rng, total = np.random.default_rng(2), np.zeros(1)
    for _ in range(30):
        total += env.step(rng.standard_normal(3).reshape(1, 1, 3)).rewards[:, 0]
    env.close()
    assert total[0] == alone[0] != returns(distribution, [b])[0]


def test_the_horizon_replaces_a_registered_limit():
    distribution = gym_tasks("Pendulum-v1", {"m": Uniform(0.5, 2)}, horizon=250)
    row = row_of(distribution)
    ends = [row.step(np.zeros(1, np.float32))[2:4] for _ in range(250)]
    assert ends == [(False, False)] * 249 + [(False, True)]
    shorter = distribution.with_horizon(3)
    assert shorter.spec.horizon == 3
    row = row_of(shorter)
    assert [row.step(np.zeros(1, np.float32))[3] for _ in range(3)] == [False, False, True]


def test_success_is_read_from_info(strange_envs):
    class Goal(strange_envs.Walk):
        def step(self, action):
            *rest, _ = super().step(action)
            return (*rest, {"is_success": np.bool_(self.steps == 2)})

    distribution = gym_tasks(Goal, strange_envs.SLOPE, horizon=9, success="is_success")
    assert distribution.spec.has_success
    row = row_of(distribution)
    assert [row.step(np.zeros(1))[4] for _ in range(3)] == [False, True, False]


def test_success_may_be_told_at_the_end_alone(strange_envs):
    class Last(strange_envs.Walk):
        def step(self, action):
            obs, reward, _, _, info = super().step(action)
            ended = self.steps == 3
            return obs, reward, ended, False, info | ({"solved": True} if ended else {})

    row = row_of(gym_tasks(Last, strange_envs.SLOPE, horizon=9, success="solved"))
    assert [row.step(np.zeros(1))[4] for _ in range(3)] == [False, False, True]
    row = row_of(gym_tasks(Last, strange_envs.SLOPE, horizon=9, success="is_success"))
    assert not any(row.step(np.zeros(1))[4] for _ in range(2))
    with pytest.raises(RowError, match="info has no 'is_success'"):
        row.step(np.zeros(1))


def test_a_misspelled_success_is_told_where_the_horizon_ends_episodes(strange_envs):
    class Near(strange_envs.Walk):
        def step(self, action):
            obs, reward, *_ = super().step(action)
            return obs, reward, False, False, {"is_success": False}

    row = row_of(gym_tasks(Near, strange_envs.SLOPE, horizon=2, success="success"))
    row.step(np.zeros(1))
    with pytest.raises(RowError, match="no 'success', the key of success; did you mean 'is_succe"):
        row.step(np.zeros(1))


def test_lists_of_tasks_and_choices():
    lists = gym_tasks(
        "CartPole-v1", horizon=20, train=[{"gravity": 5.0}, {"gravity": 6.0}], test=[{"gravity": 9}]
    )
    rng = np.random.default_rng(0)
    assert {task["gravity"] for task in lists.sample(6, rng)} == {5.0, 6.0}
    assert {task["gravity"] for task in lists.sample(3, rng, "test")} == {9}
    assert row_of(lists, {"gravity": 9}).env.unwrapped.gravity == 9
    choice = gym_tasks("CartPole-v1", {"gravity": Choice([4, 8, 9], test=[8])}, horizon=20)
    assert {task["gravity"] for task in choice.sample(20, rng)} == {4, 9}
    assert choice.describe({"gravity": 9.80665}) == "gravity=9.81"


class Mine:
    """A class of a user's own."""

    horizon = 7

    def sample(self, num_tasks: int, rng: np.random.Generator, split: str) -> list[dict]:
        low = 5.0 if split == "train" else 10.0
        return [{"g": low + rng.random()} for _ in range(num_tasks)]

    def make(self, task: dict) -> gymnasium.Env:
        return gymnasium.make("Pendulum-v1", g=task["g"])


class MineApplied(Mine):
    def apply(self, env: Any, task: dict) -> None:
        env.unwrapped.g = task["g"]


def test_a_class_with_sample_and_make(monkeypatch):
    for own, makes_anew in ((Mine, True), (MineApplied, False)):
        module = type("m", (), {own.__name__: own})
        monkeypatch.setattr(own_code, "_module", lambda *_, module=module: module)
        distribution: Any = own_tasks.load(f"my.module:{own.__name__}")
        assert distribution.spec.horizon == 7
        tasks = distribution.sample(3, np.random.default_rng(0), "test")
        assert all(10 <= task["g"] < 11 for task in tasks)
        row = row_of(distribution, tasks[0])
        first = row.env
        row.set_task(tasks[1])
        row.reset(1)
        assert (row.env is not first) == makes_anew
        assert row.env.unwrapped.g == tasks[1]["g"]
        with pytest.raises(UserError, match=r"has no argument `draw`.*--sampling.task-draw random"):
            distribution.sample(3, np.random.default_rng(0), "train", "stratified")


def test_what_a_users_sample_does_wrong_is_told(monkeypatch):
    def loaded(sample: Any) -> Any:
        own = type("Own", (Mine,), {"sample": sample})
        monkeypatch.setattr(own_code, "_module", lambda *_: type("m", (), {"t": own}))
        own_tasks.load.cache_clear()
        return own_tasks.load("my.module:t")

    rng = np.random.default_rng(0)
    few = loaded(lambda self, num, rng, split: [{"g": 9.0}])
    with pytest.raises(UserError, match=r"my.module:t: sample\(3, ...\) returned 1 tasks"):
        few.sample(3, rng)
    with pytest.raises(EnvFaultError, match="sample raised ZeroDivisionError") as caught:
        loaded(lambda self, num, rng, split: 1 / 0).sample(3, rng)
    assert "test_gym_tasks.py" in caught.value.trace
    numpy_numbers = loaded(lambda self, num, rng, split: [{"g": np.float32(9.5)}] * num)
    (task,) = numpy_numbers.sample(1, rng)
    assert type(task["g"]) is np.float32
    assert json.dumps(plain(task)) == '{"g": 9.5}'
    with pytest.raises(UserError, match=r"train\[0\]\['g'\]: a value cannot be <object"):
        loaded(lambda self, num, rng, split: [{"g": object()}] * num).sample(1, rng)


def test_spaces_that_differ_by_task_are_refused(strange_envs):
    """One agent plays them all."""

    class Reach(strange_envs.Walk):
        def __init__(self, reach: float):
            super().__init__()
            self.action_space = Box(-reach, reach, (1,), np.float32)

    class Wide(strange_envs.Walk):
        def __init__(self, reach: float):
            super().__init__()
            self.observation_space = Box(-1, 1, (int(reach),), np.float32)

    for kind, field in ((Reach, "action_space"), (Wide, "observation_space")):
        distribution = gym_tasks(kind, {"reach": Choice([1, 2, 3, 4])}, horizon=5)
        env = distribution.open(3, 2, Workers(0))
        with pytest.raises(EnvFaultError, match=f"this task's {field} is Box.*, others' is Box"):
            env.set_tasks([{"reach": reach} for reach in (1, 2, 3)])


def test_an_id_may_name_the_module_that_registers_it(strange_envs):
    distribution = gym_tasks("strange_envs:Walk-v0", strange_envs.SLOPE, horizon=5)
    assert distribution.spec.obs_dim == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("CartPole-v1", {"gravty": Uniform(5, 15)}), "no attribute 'gravty'; did you mean 'grav"),
        (("CartPole-v1", {"gravity.x": Uniform(5, 15)}), r"CartPoleEnv\.gravity has no attribute"),
        (("CartPole-v1", {"gravity[0]": Uniform(5, 15)}), r"no gravity\[0\]: 'float'"),
        (("Hopper-v5", {"model.body_mass[99]": Uniform(5, 15)}), r"no model\.body_mass\[99\]"),
        (("CartPole-v1", {"2gravity": Uniform(5, 15)}), "'2gravity' is no path of an attribute"),
        (("CartPole-v1", {"a[b]": Uniform(5, 15)}), r"'a\[b\]' is no path of an attribute"),
        (("CartPole-v7", GRAVITY), "'CartPole-v7' is no gymnasium environment"),
        (("nowhere:CartPole-v1", GRAVITY), "is no gymnasium environment"),
        (("CartPole-v1",), r"tasks are either parameters=.* or train="),
        (("Pendulum-v1", {"g": Uniform(0.5, 2, relative=True)}), "g is relative to .* attribute"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        assert gym_tasks(*arguments, horizon=20).spec


def test_a_parameter_is_not_given_twice():
    with pytest.raises(UserError, match="'g' is in kwargs and differs by task"):
        gym_tasks("Pendulum-v1", {"g": Uniform(5, 15)}, horizon=5, kwargs={"g": 9.0})


def test_what_is_no_environment_is_told(strange_envs):
    class Bare(gymnasium.Env):
        action_space = Box(-1, 1, (1,))

    with pytest.raises(UserError, match="Bare has no observation_space; set it in __init__"):
        assert gym_tasks(Bare, {"metadata": Choice([1, 2])}, horizon=5).spec
    with pytest.raises(UserError, match="env is an instance of Walk; give the class Walk"):
        gym_tasks(strange_envs.Walk(), strange_envs.SLOPE, horizon=5)
    with pytest.raises(UserError, match=r"horizon=9.5 .*whole number"):
        gym_tasks(strange_envs.Walk, strange_envs.SLOPE, horizon=9.5)  # pyright: ignore


def test_a_horizon_below_one_is_refused():
    with pytest.raises(UserError, match="horizon=0 is no number of steps"):
        gym_tasks("CartPole-v1", GRAVITY, horizon=0)


def test_a_constructor_that_raises_is_named(strange_envs):
    with pytest.raises(EnvFaultError, match="constructor raised RuntimeError: no li") as e:
        assert strange_envs.faulty("constructor").spec
    assert "no licence" in e.value.trace
    assert "strange_envs.py" in e.value.trace


class Place:
    def __init__(self):
        self.x, self.masses = 1.0, [2.0, 3.0]
        self.inner = SimpleNamespace(array=np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    ("path", "before"),
    [("x", 1.0), ("inner.array[1, 2]", 5.0), ("inner.array[-1, 0]", 3.0), ("masses[1]", 3.0)],
)
def test_a_path_gets_and_sets_one_place(path, before):
    place, there = Place(), attribute_path(path)
    assert there.get(place) == before
    there.set(place, 9.0)
    assert there.get(place) == 9.0
    assert (place.inner.array == 9.0).sum() == path.startswith("inner")


def test_a_column_and_a_whole_array():
    place = Place()
    attribute_path("inner.array[:, 1]").set(place, 0.0)
    assert place.inner.array.tolist() == [[0, 0, 2], [3, 0, 5]]
    kept = attribute_path("inner.array").get(place)
    place.inner.array[:] = 7.0
    assert kept[0, 2] == 2.0, "a copy"
