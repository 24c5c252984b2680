"""Tasks of an environment's own parameters: distributions, and splits that never meet."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from metarl.envs.gym.fixed_tasks import FixedTasks
from metarl.envs.gym.parameters import Choice, LogUniform, ParameterTasks, Uniform
from metarl.envs.splits import held_out
from metarl.errors import UserError
from metarl.runs.plain import plain

SEEDS = st.integers(0, 2**32 - 1)
DRAWS = st.sampled_from(["random", "stratified"])
NUMBERS = st.floats(-1e6, 1e6)
POSITIVE = st.floats(1e-6, 1e6)


def column(parameters, name, rng, num=4000, split="train", draw="random"):
    tasks = ParameterTasks(parameters).sample(num, rng, split, draw)
    return np.array([task[name] for task in tasks])


CASES = {
    "uniform": (Uniform(5, 15), stats.uniform(5, 10)),
    "log-uniform": (LogUniform(0.01, 100), stats.loguniform(0.01, 100)),
}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("draw", ["random", "stratified"])
@pytest.mark.parametrize("case", CASES)
def test_a_range_is_drawn_evenly(case, split, draw, rng):
    """Both where its cells part the splits and where it ranges freely."""
    parameter, expected = CASES[case]
    cut = column({"a": parameter}, "a", rng, split=split, draw=draw)
    free = column({"b": Uniform(0, 1), "a": parameter}, "a", rng, split=split, draw=draw)
    for drawn in (cut, free):
        assert stats.kstest(drawn, expected.cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("parameter", "low", "gap", "high"),
    [(Uniform(0, 10, test=(2, 7)), 0, (2, 7), 10), (LogUniform(1, 64, test=(4, 8)), 1, (4, 8), 64)],
)
def test_around_a_held_out_range_training_is_even(parameter, low, gap, high, rng):
    """Close the gap, and what is left is one even range."""
    drawn = column({"a": parameter}, "a", rng)
    kept_out = column({"a": parameter}, "a", rng, split="test")
    scale = np.log if isinstance(parameter, LogUniform) else np.asarray
    low, first, last, high = scale([low, *gap, high])
    closed = np.where(scale(drawn) > first, scale(drawn) - (last - first), scale(drawn))
    whole = stats.uniform(low, high - low - (last - first))
    assert stats.kstest(closed, whole.cdf).pvalue > 0.01
    assert stats.kstest(scale(kept_out), stats.uniform(first, last - first).cdf).pvalue > 0.01


@given(SEEDS, DRAWS, *[NUMBERS] * 4)
def test_a_held_out_range_never_meets_training(seed, draw, low, high, first, last):
    (low, high), (first, last) = sorted((low, high)), sorted((first, last))
    assume(low < high)
    try:
        tasks = {"a": Uniform(low, high, test=(first, last)), "b": Choice([1, 2])}
    except UserError:
        assert first <= low
        assert last >= high
        return
    rng = np.random.default_rng(seed)
    train, test = (column(tasks, "a", rng, 30, split, draw) for split in ("train", "test"))
    assert ((train >= low) & (train <= high) & ((train < first) | (train > last))).all()
    assert ((test >= first) & (test <= last)).all()


@given(SEEDS, DRAWS, *[POSITIVE] * 4)
def test_a_held_out_factor_never_meets_training(seed, draw, low, high, first, last):
    (low, high), (first, last) = sorted((low, high)), sorted((first, last))
    assume(low < high)
    assume(not (first <= low * (1 + 1e-9) and last >= high * (1 - 1e-9)))
    tasks = {"a": LogUniform(low, high, test=(first, last))}
    rng = np.random.default_rng(seed)
    train, test = (column(tasks, "a", rng, 30, split, draw) for split in ("train", "test"))
    assert ((train >= low) & (train <= high) & ((train < first) | (train > last))).all()
    assert ((test >= first) & (test <= last)).all()


@pytest.mark.parametrize("share", [0.0, 0.5, np.nextafter(0.5, 1.0), 1.0])
def test_a_held_out_range_has_its_ends(share):
    """The ends stay held out even where rounding could reach training's values."""
    value = Uniform(0, 1, test=(0.25, 0.75)).at(np.array([share]), "train")
    assert 0 <= value < 0.25 or 0.75 < value <= 1
    assert Uniform(0, 1, test=(0.25, 0.25)).at(np.array([share]), "test") == 0.25
    last_left = Uniform(0, 1, test=(np.nextafter(0.0, 1.0), 1)).at(np.array([share]), "train")
    assert last_left == 0.0


def test_a_test_range_outside_leaves_training_whole(rng):
    drawn = column({"a": Uniform(0, 1, test=(2, 3))}, "a", rng)
    assert stats.kstest(drawn, stats.uniform(0, 1).cdf).pvalue > 0.01
    drawn = column({"a": Uniform(0, 1, test=(-3, -2))}, "a", rng)
    assert stats.kstest(drawn, stats.uniform(0, 1).cdf).pvalue > 0.01


@pytest.mark.parametrize("split", ["train", "test"])
def test_without_a_test_range_the_first_range_is_cut_into_cells(split, rng):
    parameters = {"c": Choice(["x", "y"]), "a": LogUniform(1, np.e), "b": Uniform(0, 1)}
    first = np.log(column(parameters, "a", rng, split=split))
    assert (held_out(first) == (split == "test")).mean() > 0.999  # a logarithm rounds
    assert set(held_out(column(parameters, "b", rng, split=split))) == {True, False}
    assert set(column(parameters, "c", rng, split=split)) == {"x", "y"}


@pytest.mark.parametrize("split", ["train", "test"])
def test_where_some_have_a_test_of_their_own_all_of_these_decide(split, rng):
    parameters = {
        "free": Uniform(0, 1),
        "range": Uniform(0, 1, test=(0.5, 2)),
        "choice": Choice(["a", "b"], test=["b", "c"]),
    }
    assert set(held_out(column(parameters, "free", rng, split=split))) == {True, False}
    assert set(column(parameters, "choice", rng, split=split)) == (
        {"a"} if split == "train" else {"b", "c"}
    )
    ranged = column(parameters, "range", rng, split=split)
    assert ((ranged >= 0.5) == (split == "test")).all()


@given(SEEDS, st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_every_fourth_combination_of_choices_is_held_out(seed, sizes):
    size = math.prod(sizes)
    assume(size > 1)
    parameters = {str(i): Choice(list(range(n))) for i, n in enumerate(sizes)}
    rng = np.random.default_rng(seed)
    train, test = (
        {tuple(t.values()) for t in ParameterTasks(parameters).sample(size, rng, s, "stratified")}
        for s in ("train", "test")
    )
    assert not train & test
    assert len(train | test) == size
    assert len(test) == max(size // 4, 1)


def test_which_combinations_are_held_out_depends_on_no_generator():
    tasks = ParameterTasks({"a": Choice([1, 2, 3]), "b": Choice([1, 2, 3, 4])})
    seen = [
        {tuple(task.values()) for task in tasks.sample(30, np.random.default_rng(seed), "test")}
        for seed in range(3)
    ]
    assert seen[0] == seen[1] == seen[2]
    assert seen[0] != {(1, 4), (2, 4), (3, 4)}, "no single value is what is held out"


@given(SEEDS, st.integers(1, 60), st.sampled_from(["train", "test"]))
def test_stratified_is_a_latin_hypercube_with_choices_by_turns(seed, num, split):
    parameters = {
        "cut": Uniform(0, 1),
        "free": Uniform(0, num),
        "factor": LogUniform(1, math.exp(num)),
        "choice": Choice([0, 1, 2]),
    }
    rng = np.random.default_rng(seed)
    tasks = ParameterTasks(parameters).sample(num, rng, split, "stratified")
    for drawn in ([t["free"] for t in tasks], np.log([t["factor"] for t in tasks])):
        assert sorted(np.floor(drawn)) == list(range(num))
        assert num < 20 or list(drawn) != sorted(drawn), "ranges are shuffled apart"
    counts = np.bincount([t["choice"] for t in tasks], minlength=3)
    assert np.ptp(counts) <= 1


def test_choices_are_as_likely(rng):
    counts = np.bincount(column({"a": Choice([0, 1, 2]), "b": Uniform(0, 1)}, "a", rng, 6000))
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("draw", ["random", "stratified"])
def test_tasks_survive_json(draw, rng):
    """In their plain form; an environment gets the types that were given."""
    values = [np.float32(0.5), "map", (1, 2), np.array([[1.0], [2.0]]), True, np.int64(3)]
    parameters = {"a": Choice(values), "b": Uniform(np.float32(1), 2)}  # pyright: ignore
    tasks = ParameterTasks(parameters).sample(20, rng, "train", draw)
    assert json.loads(json.dumps(plain(tasks))) == plain(tasks)
    assert {type(task["a"]) for task in tasks} <= {type(value) for value in values}
    fixed = FixedTasks([{"a": np.float64(1.5), "b": (1, 2)}], [{"a": 0, "b": []}])
    assert fixed.sample(1, rng, "train", draw) == [{"a": 1.5, "b": (1, 2)}]
    assert plain(fixed.sample(1, rng, "train", draw)) == [{"a": 1.5, "b": [1, 2]}]


def test_a_task_is_its_takers_own(rng):
    """An environment that changes a list in place changes no later task."""
    for tasks in (
        ParameterTasks({"a": Choice([[1], [2]], test=[[2]])}),
        FixedTasks([{"a": [1]}], [{"a": [2]}]),
    ):
        first, second = tasks.sample(2, rng)
        first["a"].append(9)
        assert second == {"a": [1]}
        assert tasks.sample(1, rng) == [{"a": [1]}]


def test_equal_ranges_are_equal():
    listed: Any = [2, 3]  # as a file gives it
    assert {Uniform(0, 1, test=listed), Uniform(0, 1, test=(2, 3))} == {Uniform(0, 1, (2, 3))}
    assert Uniform(1, 2) != LogUniform(1, 2)


def test_names_and_which_numbers_are_relative():
    tasks = ParameterTasks({"a": Uniform(0.5, 2, relative=True), "b": Choice([1, 2])})
    assert (tasks.names, tasks.relative) == (("a", "b"), {"a"})
    fixed = FixedTasks([{"b": 1, "a": 2}], [{"a": 3, "b": 4}])
    assert (fixed.names, fixed.relative) == (("b", "a"), frozenset())


@given(SEEDS, st.integers(0, 25), DRAWS)
def test_fixed_tasks_repeat_only_once_the_list_is_used_up(seed, num, draw):
    fixed = FixedTasks([{"a": i} for i in range(7)], [{"a": -1}])
    drawn = [t["a"] for t in fixed.sample(num, np.random.default_rng(seed), "train", draw)]
    for start in range(0, num, 7):
        part = drawn[start : start + 7]
        assert len(set(part)) == len(part)
    assert fixed.sample(2, np.random.default_rng(seed), "test", draw) == [{"a": -1}] * 2


def test_fixed_tasks_come_in_another_order_each_time(rng):
    fixed = FixedTasks([{"a": i} for i in range(7)], [{"a": -1}])
    drawn = [t["a"] for t in fixed.sample(14, rng)]
    assert drawn[:7] != drawn[7:]


@pytest.mark.parametrize(
    "tasks",
    [
        ParameterTasks({"a": Uniform(0, 1)}),
        ParameterTasks({"a": Choice([1, 2])}),
        FixedTasks([{"a": 1}], [{"a": 2}]),
    ],
)
def test_an_unknown_split_or_draw_is_refused(tasks, rng):
    with pytest.raises(UserError, match="'validation' is no split"):
        tasks.sample(2, rng, "validation")
    with pytest.raises(UserError, match="'sobol' is no way to draw"):
        tasks.sample(2, rng, "train", "sobol")


ERRORS = {
    "low 15 is not below high 5; swap": lambda: Uniform(15, 5),
    "low 5 is not below high 5": lambda: Uniform(5, 5),
    "[0, nan] is not finite": lambda: Uniform(0, math.nan),
    "[-inf, 0] is not finite": lambda: Uniform(-math.inf, 0),
    "[2, inf] is not finite": lambda: Uniform(0, 1, test=(2, math.inf)),
    "'5' is no number": lambda: Uniform("5", 6),  # pyright: ignore
    "False is no number": lambda: Uniform(False, 1),
    "0 has no logarithm; use ends above 0": lambda: LogUniform(0, 1),
    "-1 has no logarithm": lambda: LogUniform(1, 2, test=(-1, 3)),
    "test starts at 2, above its end 1; swap": lambda: Uniform(0, 1, test=(2, 1)),
    "3 is no range; write test=": lambda: Uniform(0, 1, test=3),  # pyright: ignore
    "test leaves nothing of [0, 1] to train on; narrow": lambda: Uniform(0, 1, test=(0, 1)),
    "no value is left to train on": lambda: Choice([]),
    "Choice(values=(1, 2), test=(2, 1), relative=False, weights=None): no value": lambda: Choice(
        [1, 2], [2, 1]
    ),
    "1.0 is twice in values": lambda: Choice([1, 2, 1.0]),
    "[3] is twice in test": lambda: Choice([1], test=[[3], (3,)]),
    "values is 'ab'; give a list": lambda: Choice("ab"),
    "a value cannot be nan": lambda: Choice([1, math.nan]),
    "a value cannot be {1}": lambda: Choice([{1}]),
    "'fast' is no factor": lambda: Choice(["fast"], relative=True),
    "parameter 'gravity' is (5, 15); give Uniform": lambda: ParameterTasks({"gravity": (5, 15)}),  # pyright: ignore
    "allow only a single task": lambda: ParameterTasks({"a": Choice([1]), "b": Choice([2])}),
    "these parameters allow only a single task": lambda: ParameterTasks({}),
    "100000000 combinations of choices are more than 65536": lambda: ParameterTasks(
        {name: Choice(range(100)) for name in "abcd"}
    ),
    "train is []; give at least one": lambda: FixedTasks([], [{"a": 1}]),
    "test is []; give at least one": lambda: FixedTasks([{"a": 1}], []),
    "train[0] is 3; a task is": lambda: FixedTasks([3], [{"a": 1}]),  # pyright: ignore
    "train[0]['a']: a value cannot be inf": lambda: FixedTasks([{"a": math.inf}], [{"a": 1}]),
    "test[1], {'a': 2}, is in train too": lambda: FixedTasks([{"a": 2.0}], [{"a": 1}, {"a": 2}]),
    "train[1] sets ['b'], train[0] ['a']": lambda: FixedTasks([{"a": 1}, {"b": 1}], [{"a": 2}]),
}


@pytest.mark.parametrize("message", ERRORS)
def test_what_makes_no_tasks_is_refused(message):
    with pytest.raises(UserError) as refused:
        ERRORS[message]()
    assert message in str(refused.value)
