"""Which classes a name stands for, and what a wrong one is told."""

from importlib import metadata

import pytest
from metaworld import env_dict

from metarl.config.settings import EnvConfig, MetaWorldConfig
from metarl.envs import catalogue
from metarl.envs.metaworld.classes import Split, splits_of
from metarl.envs.metaworld.distribution import MetaWorld
from metarl.errors import UserError


@pytest.mark.parametrize(
    ("name", "train", "both"),
    # metaworld 3.1.1 tests ML25 on a class that it trains on.
    [("ml10", 10, set()), ("ml25", 25, {"basketball-v3"}), ("ml45", 45, set())],
)
def test_splits_are_the_benchmarks(name, train, both):
    """In their order, which decides the goals."""
    splits, theirs = splits_of(name, "", 3), getattr(env_dict, f"{name.upper()}_V3")
    assert splits.train == Split(tuple(theirs["train"]), 3)
    assert splits.test == Split(tuple(theirs["test"]), 3)
    assert (len(splits.train.classes), len(splits.test.classes)) == (train, 5)
    assert set(splits.train.classes) & set(splits.test.classes) == both


def test_ml1_tests_on_other_goals_of_its_class():
    assert splits_of("ml1:push-v3", "push-v3", 4) == (
        Split(("push-v3",), 4),
        Split(("push-v3",), 5),
    )


def test_lists_of_ones_own():
    name = "metaworld:sweep-v3,push-v3|reach-v3"
    train, test = Split(("sweep-v3", "push-v3"), 1), Split(("reach-v3",), 1)
    assert splits_of(name, name.partition(":")[2], 1) == (train, test)
    assert catalogue.default_horizon(name) == 500


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ml1:pusj-v3", "'pusj-v3' in .* is no Meta-World task; .*'push-v3'"),
        ("metaworld:pusj-v3|reach-v3", "'pusj-v3' in .* is no Meta-World task; .*'push-v3'"),
        ("metaworld:push-v3|raech-v3", "'raech-v3' in .* is no Meta-World task; .*'reach-v3'"),
        (
            "metaworld:push-v3,reach-v3|reach-v3",
            "'reach-v3' of .* is in the training and the test list",
        ),
        ("metaworld:push-v3,push-v3|reach-v3", "'push-v3' is twice in a list"),
        ("metaworld:push-v3|sweep-v3,sweep-v3", "'sweep-v3' is twice in a list"),
        ("metaworld:push-v3", "does not name two lists of classes"),
        ("metaworld:|push-v3", "does not name two lists of classes"),
        ("metaworld:push-v3|", "does not name two lists of classes"),
        ("metaworld", "'metaworld' alone is none: metaworld:TRAIN"),
        ("ml1", "'ml1' alone is none: ml1:TASK"),
    ],
)
def test_a_wrong_name_is_told_what_is_wrong(name, message):
    with pytest.raises(UserError, match=message):
        catalogue.make(name, 10)


def test_an_episode_longer_than_the_references_is_refused():
    assert catalogue.make("ml1:push-v3", 500).spec.horizon == 500
    with pytest.raises(UserError, match=r"horizon of 501 steps.*at most 500"):
        catalogue.make("ml1:push-v3", 501)


@pytest.fixture
def pretend(monkeypatch):
    """`pretend(package, version)`: the checks read what is installed, and no other can be."""
    version = metadata.version

    def installed(package, found):
        monkeypatch.setattr(
            metadata, "version", lambda name: found if name == package else version(name)
        )

    return installed


def test_another_mujoco_is_refused(pretend):
    pretend("mujoco", "3.4.0")
    with pytest.raises(UserError, match=r"mujoco 3\.4\.0 is installed.*needs 3\.3\.0") as caught:
        catalogue.make("ml1:push-v3", 10)
    assert "pip install mujoco==3.3.0" in str(caught.value)


def test_another_metaworld_plays_its_own_environments_only(pretend):
    pretend("metaworld", "3.2.0")
    with pytest.raises(UserError, match=r"metaworld 3\.2\.0 is installed.* those of 3\.1\.1"):
        catalogue.make("ml1:push-v3", 10)
    reference = MetaWorldConfig(engine="reference")
    assert catalogue.make("ml1:push-v3", 10, metaworld=reference).spec.horizon == 10


def test_settings_of_meta_world_for_other_tasks_are_refused():
    other = MetaWorldConfig(goals_seed=2)
    with pytest.raises(UserError, match="is set, and 'point-goal' has no use for it"):
        catalogue.configured(EnvConfig("point-goal", 10, other))
    assert catalogue.configured(EnvConfig("point-goal", 10)).spec.horizon == 10
    found = catalogue.configured(EnvConfig("ml1:push-v3", 20, other))
    assert isinstance(found, MetaWorld)
    assert found.splits == (Split(("push-v3",), 2), Split(("push-v3",), 3))
    assert found.spec.horizon == 20
