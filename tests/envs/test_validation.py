"""Validation tasks: neither those of training nor those that are held out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from metarl import Choice, Uniform, gym_tasks
from metarl.config.settings import FewShotEnvConfig, MetaWorldConfig
from metarl.envs import catalogue
from metarl.envs.supervised import families
from metarl.envs.validation import GOALS, SHARE, with_validation
from metarl.errors import UserError
from metarl.types import Classes

NAMES = ["point-goal", "bandit:5", "tabular-mdp", "half-cheetah-vel:maml2017", "ml1:reach-v3"]


def known(tasks) -> set[str]:
    return {json.dumps(task, sort_keys=True) for task in tasks}


def drawn(tasks, split: str, num: int = 400, rounds: int = 5) -> set[str]:
    """Tasks of many draws of a split."""
    rng = np.random.default_rng(3)
    return set().union(*(known(tasks.sample(num, rng, split)) for _ in range(rounds)))


def parts(tasks) -> tuple[set[str], set[str], set[str]]:
    """What a search trains on, what it is judged by, and what is held out."""
    part = with_validation(tasks)
    return drawn(part, "train"), drawn(part, "test"), drawn(tasks, "test")


@pytest.mark.parametrize("name", NAMES)
def test_of_the_catalogue(name: str):
    tasks = catalogue.make(name, 10, metaworld=MetaWorldConfig())
    train, validation, test = parts(tasks)
    assert train
    assert validation
    assert not train & validation
    assert not (train | validation) & test
    assert (train | validation) - drawn(tasks, "test") == train | validation
    share = len(validation) / (len(train) + len(validation))
    if isinstance(tasks, Classes):  # few goals, which were all drawn
        assert share == pytest.approx(GOALS // SHARE / GOALS)
        assert known(with_validation(tasks).held_out(99)) == validation
        assert (train | validation) == known(tasks.held_out(GOALS, "train"))


def test_a_range_is_covered_by_both_parts():
    """Validation tasks are no corner of the range: quarters of it have as many."""
    part = with_validation(catalogue.make("half-cheetah-vel:maml2017", 10))
    for split in ("train", "test"):
        tasks = part.sample(2000, np.random.default_rng(0), split)
        counts, _ = np.histogram([task["velocity"] for task in tasks], bins=4, range=(0, 2))
        assert counts == pytest.approx(np.full(4, 500), abs=80)


def test_strata_stay():
    """A stratified meta-batch still has a task in each part of the range, in order."""
    part = with_validation(catalogue.make("half-cheetah-vel:maml2017", 10))
    tasks = part.sample(40, np.random.default_rng(0), "train", "stratified")
    velocities = [task["velocity"] for task in tasks]
    assert velocities == sorted(velocities)
    assert np.diff(velocities).max() < 0.13


def test_equal_keys_draw_equal_tasks():
    tasks = catalogue.make("point-goal", 10)
    one, other = (with_validation(tasks).sample(9, np.random.default_rng(5)) for _ in range(2))
    assert one == other


def test_choices_of_a_gymnasium_environment():
    """Few tasks: every one is on one side, and a quarter is for validation."""
    tasks = gym_tasks(
        "CartPole-v1",
        parameters={"gravity": Choice([1.0 * n for n in range(1, 9)]), "length": Choice([0.5, 1])},
        horizon=20,
    )
    train, validation, test = parts(tasks)
    assert (len(train), len(validation), len(test)) == (9, 3, 4)
    assert len(train | validation | test) == 16


def test_the_environments_stay_those_of_the_distribution():
    """What a copy opens and describes is the original's, in workers too."""
    tasks = gym_tasks("CartPole-v1", parameters={"gravity": Uniform(5, 15)}, horizon=20)
    part = with_validation(tasks)
    assert type(part) is type(tasks)
    assert part.spec == tasks.spec
    assert tasks.sample(3, np.random.default_rng(0)) == tasks.sample(3, np.random.default_rng(0))


@pytest.mark.parametrize("rotations", ["none", "train"])
def test_classes_of_few_shot_tasks(rotations: str):
    """No class of validation is trained on, turned or not."""
    env = FewShotEnvConfig("digits", 1, 1, ways=2, rotations=rotations)  # pyright: ignore
    tasks = families.build(env)
    part = with_validation(tasks)
    rng, classes = np.random.default_rng(0), {}
    for name, of, split in (
        ("train", part, "train"),
        ("apart", part, "test"),
        ("held", tasks, "test"),
    ):
        found = [x for task in of.sample(200, rng, split) for x in task["classes"]]
        classes[name] = {x[0] if isinstance(x, list) else x for x in found}
    assert len(classes["train"]) == 3
    assert len(classes["apart"]) == 2
    assert not classes["train"] & classes["apart"]
    assert not (classes["train"] | classes["apart"]) & classes["held"]
    support, query = part.draw(part.sample(3, rng, "test"), 1, 1, rng)
    assert support.inputs.shape == query.inputs.shape


def test_curves():
    tasks = families.build(FewShotEnvConfig("sinusoid"))
    train, validation, test = parts(tasks)
    assert not train & validation
    assert not validation & test


def test_too_few_tasks():
    with pytest.raises(UserError, match=r"too few training tasks .* only 2 are"):
        with_validation(catalogue.make("half-cheetah-dir:maml2017", 10))
    with pytest.raises(UserError, match=r"5 training classes.*\n.*--select-on train"):
        with_validation(families.build(FewShotEnvConfig("digits", 1, 1)))
