"""The task that is played is the task that was asked for, beside and after others."""

from __future__ import annotations

import copy
import enum
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.acrobot import AcrobotEnv

from metarl import Choice, Uniform, gym_tasks
from metarl.checking.before_training import check_before_training
from metarl.envs.gym.tasks import GymTasks, class_tasks
from metarl.errors import EnvFaultError, TaskWarning, UserError
from metarl.experiments.presets import preset
from metarl.types import Task, Workers

HERE = Workers(0)


@dataclass
class Settings:
    lanes: dict[str, int]
    speeds: list[float]


@dataclass(frozen=True)
class Frozen:
    speed: float


class Pair(NamedTuple):
    low: float
    high: float


class Colour(enum.Enum):
    RED = 1
    BLUE = "blue"


CONFIG: Any = preset("point-goal")
SHARED, OWN = Settings({"count": 1}, [1.0, 2.0]), SimpleNamespace(speed=1.0)
ONE, TABLE = np.float32(1), np.arange(4.0)


class Base(gymnasium.Env):
    """An environment whose observation shows what `shown` says of it."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = gymnasium.spaces.Discrete(2)

    def shown(self) -> float:
        raise NotImplementedError

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
        super().reset(seed=seed)
        return np.array([self.shown()]), {}

    def step(self, action: Any) -> tuple:
        return np.array([self.shown()]), self.shown(), False, False, {}


class OfTheClass(Base):
    numbers = (1.0, 2.0)
    speeds = [1.0, 2.0]  # noqa: RUF012
    table = np.array([[1.0, 2.0], [3.0, 4.0]])
    nested = {"a": {"b": 5.0}}  # noqa: RUF012
    pair = Pair(0.0, 1.0)

    class settings:  # noqa: N801
        speed = 1.0

    def shown(self) -> float:
        return float(
            self.numbers[1] + self.speeds[0] + self.table[1, 0] + self.nested["a"]["b"]
            + self.pair.high + self.settings.speed
        )  # fmt: skip


class OfTheModule(Base):
    """Its engine holds the settings too, and its table is a view of the module's."""

    def __init__(self, own: Any = OWN) -> None:
        self.settings, self.own, self.alias = SHARED, own, SHARED
        self.engine = SimpleNamespace(parts=[{"settings": SHARED}])
        self.table = TABLE.reshape(2, 2)

    def shown(self) -> float:
        engines = self.engine.parts[0]["settings"]
        return float(
            self.alias.lanes["count"] + engines.speeds[1] + self.own.speed + self.table[0, 1]
        )


PATHS = [
    (OfTheClass, "numbers[1]"),
    (OfTheClass, "speeds[0]"),
    (OfTheClass, "table[1, 0]"),
    (OfTheClass, "nested.a.b"),
    (OfTheClass, "pair[1]"),
    (OfTheClass, "settings.speed"),
    (OfTheModule, "settings.lanes.count"),
    (OfTheModule, "settings.speeds[1]"),
    (OfTheModule, "own.speed"),
    (OfTheModule, "table[0, 1]"),
]


def played(tasks: GymTasks, asked: Sequence[Task], workers: Workers = HERE) -> np.ndarray:
    """Returns the first observations of tasks that play side by side, [K, ...]."""
    env = tasks.open(len(asked), 1, workers)
    env.set_tasks(asked)
    obs = env.reset(np.zeros((len(asked), 1), np.uint64)).copy()
    env.close()
    return obs[:, 0]


@pytest.mark.parametrize(("kind", "path"), PATHS, ids=lambda x: getattr(x, "__name__", x))
def test_what_instances_share_is_each_ones_own(kind, path):
    """Tasks side by side show what each shows alone, and class and module stay as they were."""
    before = kind().shown(), copy.deepcopy(SHARED)
    tasks = gym_tasks(kind, {path: Uniform(10.0, 20.0)}, horizon=5)
    asked = tasks.sample(3, np.random.default_rng(0))
    together = played(tasks, asked)
    assert np.array_equal(together, np.concatenate([played(tasks, [task]) for task in asked]))
    assert len({*together.ravel()}) == 3
    differences = together[:, 0] - [task[path] for task in asked]
    np.testing.assert_allclose(differences, differences[0], atol=1e-5)
    assert (kind().shown(), SHARED) == before


def test_what_is_an_instances_own_keeps_its_identity():
    """A world that two parts of an environment hold is not copied for one of them."""

    class World(Base):
        def __init__(self) -> None:
            self.world = SimpleNamespace(gravity=1.0)
            self.engine = SimpleNamespace(world=self.world)

        def shown(self) -> float:
            return self.engine.world.gravity

    tasks = gym_tasks(World, {"world.gravity": Uniform(5, 15)}, horizon=5)
    asked = tasks.sample(2, np.random.default_rng(0))
    np.testing.assert_allclose(
        played(tasks, asked)[:, 0], [task["world.gravity"] for task in asked]
    )


def test_a_shared_object_in_another_shared_one_is_refused():
    """To set it in one environment's registry would set it in everybody's."""
    registry = [SHARED]

    class Registered(OfTheModule):
        def __init__(self) -> None:
            super().__init__()
            self.registry = registry

    tasks = gym_tasks(Registered, {"settings.lanes.count": Uniform(5, 6)}, horizon=5)
    with pytest.raises(EnvFaultError, match=r"another shared object holds it; set .*apply="):
        played(tasks, tasks.sample(2, np.random.default_rng(0)))
    assert registry == [SHARED]


def test_acrobots_torques_stay_the_classs():
    parameters = {"AVAIL_TORQUE[0]": Uniform(-3, -0.2), "AVAIL_TORQUE[2]": Uniform(0.2, 3)}
    tasks = gym_tasks("Acrobot-v1", parameters, horizon=50)
    asked = tasks.sample(4, np.random.default_rng(0))
    seeds, actions = np.zeros((4, 1), np.uint64), np.zeros((4, 1, 1))
    shown = []
    for workers in (Workers(0), Workers(2)):
        env = tasks.open(4, 1, workers)
        env.set_tasks(asked)
        env.reset(seeds)
        shown.append([env.step(actions).obs.copy() for _ in range(5)])
        env.close()
    assert np.array_equal(*shown)
    assert len({x.tobytes() for x in shown[0][-1]}) == 4
    assert AcrobotEnv.AVAIL_TORQUE == [-1.0, 0.0, +1]


class Typed(Base):
    """Keeps the types of its arguments and attributes."""

    def __init__(self, goal: Any = (0, 0), colour: Any = Colour.RED, size: Any = ONE):
        self.goal, self.colour, self.size = goal, colour, size
        self.place, self.kind, self.scale = (0, 0), Colour.RED, np.float32(2)
        self.options = {"lanes_count": 4, "vehicles": 9}
        self.weights, self.walls, self.queue = np.array([1, 2]), [(0, 0)], deque([1.0])
        self.ragged = [np.zeros(1), np.zeros(2)]
        self.speeds, self.names = (1.0, 2.0), np.array(["abc", "de"])

    def shown(self) -> float:
        return 0.0


GIVEN = {
    "a tuple": ("goal", [(2, 3), (3, 2)], (2, 3)),
    "a list for a tuple": ("goal", [[2, 3], [3, 2]], (2, 3)),
    "a list for an attribute's tuple": ("place", [[2, 3], [3, 2]], (2, 3)),
    "members": ("colour", [Colour.BLUE, Colour.RED], Colour.BLUE),
    "an attribute's member": ("kind", ["blue", 1], Colour.BLUE),
    "whole numbers of numpy": ("goal", [np.int64(2), np.int64(3)], np.int64(2)),
    "a number for numpy's": ("size", [0.5, 0.25], np.float32(0.5)),
    "a number for an attribute of numpy's": ("scale", [0.5, 0.25], np.float32(0.5)),
    "an array": ("goal", [np.array([2.0, 3.0]), np.array([3.0, 2.0])], np.array([2.0, 3.0])),
    "fractions for whole numbers": ("weights", [[0.5, 1.7], [0.9, 1.2]], np.array([0.5, 1.7])),
    "longer words": ("names", [["forest", "sea"], ["a", "b"]], np.array(["forest", "sea"])),
    "more tuples than there were": ("walls", [[[1, 2], [3, 4]], [[5, 6]]], [(1, 2), (3, 4)]),
    "lists of different lengths": ("ragged", [[[1.0], [2.0, 3.0]], [[2.0], [0.0, 0.0]]],
                                   [np.array([1.0]), np.array([2.0, 3.0])]),
    "a deque": ("queue", [[2.0, 3.0], [4.0]], deque([2.0, 3.0])),
    "a dictionary": ("options", [{"lanes_count": 2}, {"lanes_count": 3}],
                     {"lanes_count": 2, "vehicles": 9}),
}  # fmt: skip


@pytest.mark.parametrize("case", GIVEN)
def test_an_environment_gets_the_types_that_were_given(case):
    name, values, expected = GIVEN[case]
    row: Any = gym_tasks(Typed, {name: Choice(values)}, horizon=5).rows.make()
    row.set_task({name: values[0]})
    row.reset(0)
    found = getattr(row.env.unwrapped, name)
    assert type(found) is type(expected)
    if isinstance(found, list | np.ndarray):
        assert all(map(np.array_equal, found, expected))
    else:
        assert found == expected


def test_a_factor_scales_each_number_of_a_tuple():
    tasks = gym_tasks(Typed, {"speeds": Choice([2, 3, 4, 5], relative=True)}, horizon=5)
    row: Any = tasks.rows.make()
    row.set_task({"speeds": 3})
    row.reset(0)
    assert row.env.unwrapped.speeds == (3.0, 6.0)


@pytest.mark.parametrize(
    ("name", "parameter", "said"),
    [
        ("weights", Uniform(1, 2), r"weights is array\(\[1, 2\]\), not a single number; give"),
        (
            "weights[0]",
            Uniform(0.2, 0.8),
            r"weights\[0\] is np.int64\(0\) once it is set, the task's is 0\.",
        ),
        ("frozen.speed", Uniform(1, 2), "frozen.speed cannot be set to 1.*apply=function"),
    ],
)
def test_a_value_that_an_attribute_cannot_hold_is_refused(name, parameter, said):
    class Held(Typed):
        frozen = Frozen(1.0)

    tasks = gym_tasks(Held, {name: parameter}, horizon=5)
    with pytest.raises(EnvFaultError, match=said):
        played(tasks, tasks.sample(2, np.random.default_rng(0)))


def test_lists_of_tasks_and_classes_of_ones_own_keep_types_too():
    fixed = gym_tasks(
        Typed, train=[{"goal": (2, 3)}, {"goal": (1, 1)}], test=[{"goal": (5, 5)}], horizon=5
    )
    assert all(type(task["goal"]) is tuple for task in fixed.sample(4, np.random.default_rng(0)))

    class Own:
        horizon = 5

        def sample(self, num, rng, split):
            return [{"goal": (i, 1)} for i in range(num)]

        def make(self, task):
            return Typed(task["goal"])

    row: Any = class_tasks(Own(), "own").rows.make()
    row.set_task({"goal": (2, 1)})
    assert row.env.unwrapped.goal == (2, 1)


class Drawing(Base):
    """Draws its goal at every reset; its wind exists from the first reset on."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
        found = super().reset(seed=seed)
        self.goal = float(self.np_random.uniform())
        self.wind, self.gusts = getattr(self, "wind", 0.0), getattr(self, "gusts", None) or [0.0]
        return found

    def shown(self) -> float:
        return getattr(self, "wind", 0.0)


class Gusty(Drawing):
    """Its gusts are None before the first reset."""

    gusts: Any = None

    def shown(self) -> float:
        return (self.gusts or [0.0])[0]


def test_an_attribute_that_reset_overwrites_is_refused():
    tasks = gym_tasks(Drawing, {"goal": Uniform(5, 6)}, horizon=5)
    with pytest.raises(EnvFaultError, match=r"goal is 0\.\d+ once it is reset, the task's.*apply="):
        played(tasks, tasks.sample(2, np.random.default_rng(0)))


def test_an_attribute_that_ignores_its_value_is_refused():
    class Deaf(Base):
        gravity = property(lambda self: 9.81, lambda self, value: None)

    tasks = gym_tasks(Deaf, {"gravity": Uniform(5, 6)}, horizon=5)
    with pytest.raises(EnvFaultError, match=r"gravity is 9\.81 once it is set, the task's is 5\."):
        played(tasks, tasks.sample(2, np.random.default_rng(0)))


@pytest.mark.parametrize(("name", "kind"), [("wind", Drawing), ("gusts[0]", Gusty)])
def test_an_attribute_that_exists_after_a_reset_alone_is_served(name, kind):
    tasks = gym_tasks(kind, {name: Uniform(5, 6)}, horizon=5)
    asked = tasks.sample(2, np.random.default_rng(0))
    np.testing.assert_allclose(played(tasks, asked)[:, 0], [task[name] for task in asked])


def test_numpys_whole_numbers_and_specs_are_taken():
    ten: Any = np.int64(10)
    tasks = gym_tasks(gymnasium.spec("CartPole-v1"), {"gravity": Uniform(5, 15)}, horizon=ten)
    assert (tasks.name, tasks.spec.horizon, type(tasks.horizon)) == ("CartPole-v1", 10, int)


class Leaking(Base):
    state: Any = {}  # noqa: RUF012

    def __init__(self, speed: float = 1.0):
        self.speed = speed

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple:
        Leaking.state["speed"] = self.speed
        return super().reset(seed=seed)

    def shown(self) -> float:
        return Leaking.state["speed"]


class Forgetful(Base):
    """Names a parameter that nothing reads."""

    unread = 0.0

    def shown(self) -> float:
        return float(self.np_random.uniform())


class Growing(Base):
    """An episode adds to what the next begins with."""

    grown = 0.0

    def __init__(self, speed: float = 1.0):
        self.speed = speed

    def step(self, action: Any) -> tuple:
        self.grown += self.speed
        return super().step(action)

    def shown(self) -> float:
        return self.grown


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        (Leaking, "speed", "one task changes another: task .* beside another"),
        (Forgetful, "unread", "8 tasks, such as .* are the same: equal seeds"),
        (Growing, "speed", "after an episode the same seed starts another one"),
    ],
)
def test_training_begins_with_a_look_at_ones_own_tasks(kind, name, said):
    tasks = gym_tasks(kind, {name: Uniform(1, 2)}, horizon=10)
    with pytest.raises((UserError, EnvFaultError), match=said):
        check_before_training(tasks, CONFIG, HERE)
    if kind is Forgetful:
        check_before_training(replace(tasks, sparse=True), CONFIG, HERE)
        # The look ends after some time, so a slow machine compares fewer tasks.
        with pytest.warns(TaskWarning, match=r"in \d+ steps [2-8] tasks, such as"):
            check_before_training(replace(tasks, horizon=10**6), CONFIG, HERE)


@pytest.mark.parametrize(("kind", "path"), PATHS[:2], ids=lambda x: getattr(x, "__name__", x))
def test_sound_tasks_pass_the_look(kind, path):
    check_before_training(gym_tasks(kind, {path: Uniform(1, 2)}, horizon=10**6), CONFIG, HERE)


def test_a_single_training_task_is_refused_with_the_cause():
    """The other value is held out."""
    tasks = gym_tasks("FrozenLake-v1", {"map_name": Choice(["4x4", "8x8"])}, horizon=10)
    with pytest.raises(UserError, match=r"are all .*; give more values, or name those held out"):
        check_before_training(tasks, CONFIG, HERE)
