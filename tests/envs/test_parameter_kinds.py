"""Normal, weighted, constant and vector parameters: their statistics, splits and errors."""

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from metarl.checking.checks import check
from metarl.checking.options import CheckOptions
from metarl.checking.play import Subject
from metarl.envs.gym.parameters import (
    Choice,
    Constant,
    LogUniform,
    Normal,
    ParameterTasks,
    Uniform,
)
from metarl.envs.gym.tasks import gym_tasks
from metarl.envs.gym.values import times
from metarl.envs.splits import held_out
from metarl.errors import EnvFaultError, UserError
from metarl.types import Workers

SEEDS = st.integers(0, 2**32 - 1)
DRAWS = st.sampled_from(["random", "stratified"])
BOTH = pytest.mark.parametrize("draw", ["random", "stratified"])


def column(parameters, name, rng, num=4000, split="train", draw="random"):
    tasks = ParameterTasks(parameters).sample(num, rng, split, draw)
    return np.array([task[name] for task in tasks])


NORMALS = {
    "whole": (Normal(2, 3), stats.norm(2, 3)),
    "cut": (Normal(2, 3, low=0, high=4), stats.truncnorm(-2 / 3, 2 / 3, 2, 3)),
    "below": (Normal(0, 1, high=-2), stats.truncnorm(-np.inf, -2, 0, 1)),
    "far above": (Normal(0, 1, low=12), stats.truncnorm(12, np.inf, 0, 1)),
}


@BOTH
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("case", NORMALS)
def test_normal_numbers_are_normal(case, split, draw, rng):
    """Both where its cells part the splits and where it ranges freely."""
    parameter, expected = NORMALS[case]
    cut = column({"a": parameter}, "a", rng, split=split, draw=draw)
    free = column({"b": Uniform(0, 1), "a": parameter}, "a", rng, split=split, draw=draw)
    for drawn in (cut, free):
        assert np.isfinite(drawn).all()
        assert stats.kstest(drawn, expected.cdf).pvalue > 0.01


def test_normal_splits_share_no_cell(rng):
    for split in ("train", "test"):
        quantile = stats.norm(2, 3).cdf(column({"a": Normal(2, 3)}, "a", rng, split=split))
        assert (held_out(quantile) == (split == "test")).mean() > 0.999


@settings(max_examples=40)
@given(SEEDS, DRAWS, *[st.floats(-3, 3)] * 4)
def test_a_held_out_part_of_a_normal_never_meets_training(seed, draw, low, high, first, last):
    (low, high), (first, last) = sorted((low, high)), sorted((first, last))
    try:
        tasks = {"a": Normal(0, 1, low, high, test=(first, last))}
    except UserError:
        assume(False)
        return
    rng = np.random.default_rng(seed)
    train, test = (column(tasks, "a", rng, 30, split, draw) for split in ("train", "test"))
    assert ((train >= low) & (train <= high) & ((train < first) | (train > last))).all()
    assert ((test >= first) & (test <= last)).all()


def test_the_test_part_of_a_normal_keeps_its_shape(rng):
    parameter = {"a": Normal(0, 1, test=(1, 2))}
    drawn = column(parameter, "a", rng, split="test")
    assert stats.kstest(drawn, stats.truncnorm(1, 2).cdf).pvalue > 0.01
    mass = stats.norm.cdf(1) / (stats.norm.cdf(1) + stats.norm.sf(2))
    assert (column(parameter, "a", rng) < 1).mean() == pytest.approx(mass, abs=0.02)


@pytest.mark.parametrize("share", [0.0, np.nextafter(1.0, 0.0)])
def test_the_ends_of_a_normal_are_finite(share):
    assert np.isfinite(Normal(0, 1).at(np.array([share]), "train")).all()


@BOTH
def test_weights_are_how_often_values_come(draw, rng):
    values, weights = ["a", "b", "c"], [1, 2, 5]
    with_range = {"x": Choice(values, weights=weights), "y": Uniform(0, 1)}
    drawn = column(with_range, "x", rng, 8000, draw=draw)
    counts = np.array([(drawn == value).sum() for value in values])
    if draw == "stratified":
        assert np.abs(counts - [1000, 2000, 5000]).max() <= 1
    else:
        assert stats.chisquare(counts, [1000, 2000, 5000]).pvalue > 0.01


def test_weights_hold_in_both_splits(rng):
    parameter = {"x": Choice([0, 1, 2, 3], test=[2, 3], weights=[1, 3, 1, 4])}
    for split, values, share in (("train", {0, 1}, 3 / 4), ("test", {2, 3}, 4 / 5)):
        drawn = column(parameter, "x", rng, split=split)
        assert set(drawn) == values
        assert (drawn == max(values)).mean() == pytest.approx(share, abs=0.03)
    unknown = {"x": Choice([0, 1], test=[1, 9], weights=[1, 3])}
    assert (column(unknown, "x", rng, split="test") == 9).mean() == pytest.approx(0.5, abs=0.03)


def test_combinations_have_the_product_of_their_weights(rng):
    tasks = ParameterTasks(
        {"a": Choice([0, 1], weights=[1, 3]), "b": Choice([0, 1, 2, 3]), "c": Constant("x")}
    )
    drawn = {split: tasks.sample(8000, rng, split) for split in ("train", "test")}
    seen = {split: {(t["a"], t["b"]) for t in found} for split, found in drawn.items()}
    assert not seen["train"] & seen["test"]
    assert len(seen["train"] | seen["test"]) == 8
    ones = [b for a, b in seen["train"] if a]
    expected = 3 * len(ones) / (3 * len(ones) + len(seen["train"]) - len(ones))
    assert np.mean([t["a"] for t in drawn["train"]]) == pytest.approx(expected, abs=0.02)


def test_a_constant_is_in_every_task(rng):
    tasks = ParameterTasks({"a": Constant((1, 2)), "b": Uniform(0, 1), "c": Constant(2.5)})
    for split in ("train", "test"):
        found = tasks.sample(20, rng, split, "stratified")
        assert {(task["a"], task["c"]) for task in found} == {((1, 2), 2.5)}
    assert repr(Constant(3)) == "Constant(3)"


@BOTH
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_components_of_a_vector_are_drawn_apart(split, draw, rng):
    parameters = {
        "a": Uniform([0, 10], [1, 30]),
        "b": Normal([0, 5], 2),
        "c": LogUniform(1, [2, 4]),
    }
    expected = {
        "a": [stats.uniform(0, 1), stats.uniform(10, 20)],
        "b": [stats.norm(0, 2), stats.norm(5, 2)],
        "c": [stats.loguniform(1, 2), stats.loguniform(1, 4)],
    }
    found = []
    for name, laws in expected.items():
        drawn = column(parameters, name, rng, split=split, draw=draw)
        assert drawn.shape == (4000, 2)
        for values, law in zip(drawn.T, laws, strict=True):
            assert stats.kstest(values, law.cdf).pvalue > 0.01
            found.append(law.cdf(values))
    apart = np.corrcoef(found) - np.eye(6)
    assert np.abs(apart).max() < 0.06
    cut = held_out(np.minimum(found[0], 1 - 1e-9))
    assert (cut == (split == "test")).mean() > 0.999
    assert set(held_out(np.minimum(found[1], 1 - 1e-9))) == {True, False}


@settings(max_examples=30)
@given(SEEDS, DRAWS)
def test_a_held_out_box_never_meets_training(seed, draw):
    """The last component's test is all of its range, so it is free."""
    tasks = {"a": Uniform([0, 0, 0], [1, 1, 2], test=([0.2, 0.5, -1], [0.4, 3, 2]))}
    rng = np.random.default_rng(seed)
    train, test = (column(tasks, "a", rng, 30, split, draw) for split in ("train", "test"))
    assert ((train[:, 0] < 0.2) | (train[:, 0] > 0.4)).all()
    assert (train[:, 1] < 0.5).all()
    assert ((train >= 0) & (train <= [1, 1, 2])).all()
    assert ((test >= [0.2, 0.5, -1]) & (test <= [0.4, 3, 2])).all()


def test_matrices_and_json(rng):
    parameters = {"a": Normal(np.zeros((2, 3)), 1), "b": Uniform((0, 0), np.ones(2, np.float32))}
    [task] = ParameterTasks(parameters).sample(1, rng)
    assert np.shape(task["a"]) == (2, 3)
    assert json.loads(json.dumps(task)) == task
    assert hash(Uniform([0, 1], [2, 3])) == hash(Uniform((0, 1), np.array([2, 3])))
    assert Uniform([0, 1], [2, 3]) == Uniform((0, 1), np.array([2, 3]))


ERRORS = {
    "std 0; give finite numbers, std above 0": lambda: Normal(1, 0),
    "mean nan and std 1": lambda: Normal(math.nan, 1),
    "low 3 is not below high 2": lambda: Normal(0, 1, low=3, high=2),
    "values to train on are all but impossible": lambda: Normal(0, 1, low=50, high=51),
    "values to test on are all but impossible": lambda: Normal(0, 1, test=(9, 10)),
    "test=(-inf, inf), relative=False): values to train on": lambda: Normal(
        0, 1, test=(-math.inf, math.inf)
    ),
    "'2' is no number": lambda: Normal("2", 1),  # pyright: ignore
    "3 weights for 2 values": lambda: Choice([1, 2], weights=[1, 2, 3]),
    "the weight 0 is no number above 0": lambda: Choice([1, 2], weights=[1, 0]),
    "the weight nan is no number": lambda: Choice([1, 2], weights=[1, math.nan]),
    "the weight True is no": lambda: Choice([1, 2], weights=[1, True]),
    "weights is 'ab'; give a list": lambda: Choice([1, 2], weights="ab"),  # pyright: ignore
    "low 1 is not below high 1; swap": lambda: Uniform([0, 1], [1, 1]),
    "vectors of shapes (2,), (3,)": lambda: Uniform([0, 0], [1, 1, 1]),
    "is no array; give rows of one length": lambda: Uniform([[0], [0, 1]], 2),
    "['a', 'b'] holds no numbers": lambda: Uniform(["a", "b"], 2),
    "[] holds no numbers": lambda: Uniform([], []),
    "test leaves nothing of [(0, 0), (1, 1)]": lambda: Uniform([0, 0], [1, 1], test=([0, 0], 1)),
    "a value cannot be nan": lambda: Constant(math.nan),
    "allow only a single task": lambda: ParameterTasks({"a": Constant(1), "b": Constant(2)}),
    "give Uniform(low, high), LogUniform(low, high), Normal": lambda: ParameterTasks({"a": 3}),  # pyright: ignore
}


@pytest.mark.parametrize("message", ERRORS)
def test_what_makes_no_tasks_is_refused(message):
    with pytest.raises(UserError) as refused:
        ERRORS[message]()
    assert message in str(refused.value)


def test_factors_for_each_number():
    assert times([1, 2], (3.0, 4.0)) == (3.0, 8.0)
    np.testing.assert_array_equal(times([1, 2], np.array([3.0, 4.0])), [3.0, 8.0])
    assert times(2, [3, 4]) == [6, 8]
    for factors, own in (([1, 2], 3.0), ([1, 2, 3], (1.0, 2.0)), ([1], np.ones(2))):
        with pytest.raises(ValueError, match="factors for values of shape"):
            times(factors, own)


def model_of(tasks, task):
    pool = tasks.open(1, 1, Workers(0))
    pool.set_tasks([task])
    pool.reset(np.zeros((1, 1), np.uint64))
    return pool.executor._share._envs[0].env.unwrapped.model


def test_vectors_are_set_in_a_mujoco_model(rng):
    """Whole arrays, rows and columns, also relative to the model's own values."""
    plain = gym_tasks("Hopper-v5", {"model.body_mass[1]": Uniform(1, 2, relative=True)}, horizon=5)
    own = model_of(plain, {"model.body_mass[1]": 1.0})
    count = own.nbody - 1
    tasks = gym_tasks(
        "Hopper-v5",
        {
            "model.body_mass": LogUniform([0.5] * (count + 1), 2.0, relative=True),
            "model.geom_friction[1]": Uniform([0.5, 0.01, 0.001], [1.0, 0.02, 0.002]),
            "model.actuator_gear[:, 0]": Normal([200.0] * own.nu, 20.0, low=100.0),
        },
        horizon=5,
    )
    [task] = tasks.sample(1, rng)
    model = model_of(tasks, task)
    np.testing.assert_allclose(model.body_mass, own.body_mass * task["model.body_mass"])
    np.testing.assert_allclose(model.geom_friction[1], task["model.geom_friction[1]"])
    np.testing.assert_allclose(model.actuator_gear[:, 0], task["model.actuator_gear[:, 0]"])
    assert model.body_subtreemass[0] == pytest.approx(model.body_mass.sum())
    assert tasks.describe({"a.b": [0.123456, 2.0]}) == "b=[0.123, 2]"
    wrong = gym_tasks(
        "Hopper-v5", {"model.body_mass": Uniform([1, 1], 2, relative=True)}, horizon=5
    )
    with pytest.raises(EnvFaultError, match=r"\(2,\) factors for values of shape"):
        model_of(wrong, {"model.body_mass": [1.0, 1.0]})


@pytest.mark.slow
def test_check_env_takes_them():
    tasks = gym_tasks(
        "Pendulum-v1",
        {
            "m": Normal(1, 0.2, low=0.5),
            "l": Choice([0.8, 1.2], weights=[1, 3]),
            "g": Constant(9.0),
        },
        horizon=20,
    )
    subject = Subject(tasks, CheckOptions(episodes=3, workers=0))
    try:
        found = check(subject, lambda line: None)
    finally:
        subject.close()
    assert not [name for name, one in found.items() if one.status == "FAIL"]
