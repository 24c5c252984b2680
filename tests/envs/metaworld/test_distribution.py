"""Tasks as the official benchmarks deal them out."""

import numpy as np
import pytest
from metaworld.env_dict import ML10_V3

from metarl.config.settings import MetaWorldConfig
from metarl.envs import catalogue
from metarl.envs.metaworld.snapshots import reference
from metarl.errors import UserError


@pytest.fixture(scope="module")
def ml10():
    return catalogue.make("ml10", 500)


def test_a_meta_batch_is_spread_over_the_classes(ml10, rng):
    """Two of each class, in the benchmark's order; the i-th from goals i, i + 2, ..., each of
    which can come."""
    seen = [set() for _ in range(20)]
    for _ in range(300):
        tasks = ml10.sample(20, rng)
        assert [task["class"] for task in tasks] == [x for x in ML10_V3["train"] for _ in range(2)]
        assert {task["split"] for task in tasks} == {"train"}
        for goals, task in zip(seen, tasks, strict=True):
            goals.add(task["goal"])
    assert seen == [set(range(place % 2, 50, 2)) for place in range(20)]


def test_as_many_tasks_as_goals_are_all_of_them(rng):
    """And beyond that they come again."""
    ml1 = catalogue.make("ml1:push-v3", 500)
    for number in (50, 120):
        goals = [task["goal"] for task in ml1.sample(number, rng)]
        assert goals == [place % 50 for place in range(number)]


@pytest.mark.parametrize(
    ("split", "number", "message"),
    [
        ("train", 15, r"15 tasks .* the 10 train classes of ml10; give 10, 20, 30 \.\.\. "),
        ("test", 12, r"12 tasks .* the 5 test classes of ml10; give 5, 10, 15 \.\.\. "),
    ],
)
def test_tasks_that_cannot_be_spread_are_refused(ml10, split, number, message, rng):
    with pytest.raises(UserError, match=message):
        ml10.sample(number, rng, split)
    many = ml10.spread(split)
    assert len(ml10.sample(3 * many, rng, split)) == 3 * many


def test_evaluation_takes_the_first_goals_of_each_class(ml10):
    tasks = ml10.held_out(40)
    classes = list(ML10_V3["test"])
    assert [task["class"] for task in tasks] == [name for name in classes for _ in range(40)]
    assert [task["goal"] for task in tasks] == 5 * list(range(40))
    assert {task["split"] for task in tasks} == {"test"}
    assert len(ml10.held_out(50, "train")) == 500
    with pytest.raises(UserError, match="51 goals of each class: there are only 50"):
        ml10.held_out(51)


def test_the_observation_space_is_the_references(ml10):
    env = reference("push-v3")
    space, theirs = ml10.spec.observation_space, env.sawyer_observation_space
    np.testing.assert_array_equal(space.low, theirs.low.astype(np.float32))
    np.testing.assert_array_equal(space.high, theirs.high.astype(np.float32))
    env.close()


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (MetaWorldConfig(engine="reference"), "engine reference"),
        (MetaWorldConfig(rewards="v1"), "rewards v1"),
    ],
)
def test_a_slow_engine_is_announced(make, config, why):
    assert make().notes == ()
    (note,) = make(config).notes
    assert why in note
    assert "slower" in note
