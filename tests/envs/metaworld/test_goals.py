"""Goals are the benchmarks' own, and are kept on disk."""

import os
import pickle
import stat

import metaworld
import numpy as np
import pytest

from metarl.envs.metaworld import goals, goals_file
from metarl.envs.metaworld.classes import Split, splits_of
from metarl.envs.metaworld.goals import cache_folder, goals_of
from metarl.envs.metaworld.snapshots import reference, set_goal, snapshot
from metarl.errors import UserError

REACH = Split(("reach-v3",), 1)


def rand_vecs(tasks):
    """Returns the goals hidden in metaworld's tasks: class -> [50, d], in the order drawn."""
    found = {}
    for task in tasks:
        data = pickle.loads(task.data)
        assert data["partially_observable"], "the goal is hidden"
        found.setdefault(task.env_name, []).append(data["rand_vec"])
    return found


@pytest.mark.parametrize(
    ("name", "seed", "number", "theirs"),
    [
        ("ml1:push-v3", 3, 50, lambda: metaworld.ML1("push-v3", seed=3)),
        pytest.param(
            "metaworld:sweep-v3,drawer-open-v3|reach-v3",
            2,
            20,
            lambda: metaworld.CustomML(["sweep-v3", "drawer-open-v3"], ["reach-v3"], seed=2),
            marks=pytest.mark.slow,
        ),
        pytest.param("ml10", 1, 5, lambda: metaworld.ML10(seed=1), marks=pytest.mark.slow),
    ],
    ids=["ml1", "lists", "ml10"],
)
def test_goals_are_those_of_metaworlds_benchmark(
    name, seed, number, theirs, goals_are_few, monkeypatch
):
    """To the bit, class after class, each with `number` goals; numpy's global generator is left
    alone."""
    goals_are_few(number)
    monkeypatch.setattr(metaworld, "_N_GOALS", number)
    np.random.seed(5)  # noqa: NPY002
    following = np.random.RandomState(5).uniform(size=3)
    splits = splits_of(name, name.partition(":")[2], seed)
    ours = {split: goals_of(getattr(splits, split)) for split in splits._fields}
    np.testing.assert_array_equal(np.random.uniform(size=3), following)  # noqa: NPY002
    benchmark = theirs()
    for split, tasks in (("train", benchmark.train_tasks), ("test", benchmark.test_tasks)):
        expected = rand_vecs(tasks)
        assert list(ours[split]) == list(expected)
        for each, drawn in ours[split].items():
            np.testing.assert_array_equal(drawn.rand_vecs, np.stack(expected[each]))


@pytest.mark.parametrize(
    "name", ["peg-insert-side-v3", pytest.param("basketball-v3", marks=pytest.mark.slow)]
)
def test_a_reset_is_a_function_of_the_goal(name):
    """A new environment is where one of many resets is: state, model and constants."""
    drawn = goals_of(Split((name,), 1))[name]
    for goal in (49, 7):
        env = reference(name)
        set_goal(env, drawn.rand_vecs[goal])
        assert_equal(drawn.snapshot(goal), snapshot(env))
        env.close()


def assert_equal(one, other):
    np.testing.assert_array_equal(one.state, other.state)
    np.testing.assert_array_equal(one.obs, other.obs)
    for group, other_group in ((one.constants, other.constants), (one.model, other.model)):
        assert group.keys() == other_group.keys()
        for name, values in group.items():
            np.testing.assert_array_equal(values, other_group[name], err_msg=name)


class TestCache:
    """With three goals a class: it is drawn many times."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.setattr(goals, "GOALS", 3)
        monkeypatch.setenv("METARL_CACHE", str(tmp_path / "new" / "cache"))
        return tmp_path / "new" / "cache"

    def test_a_second_time_it_is_read(self, folder, capsys):
        first = goals_of(REACH)["reach-v3"]
        assert "resetting the 3 goals of 1 class once" in capsys.readouterr().err
        (path,) = folder.iterdir()
        assert path.suffix == ".goals"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        again = goals_of(REACH)["reach-v3"]
        assert capsys.readouterr().err == ""
        np.testing.assert_array_equal(first.rand_vecs, again.rand_vecs)
        for goal in range(3):
            assert_equal(first.snapshot(goal), again.snapshot(goal))

    def test_every_seed_and_list_of_classes_has_its_own(self, folder):
        lists = (("reach-v3",), ("reach-v3", "push-v3"), ("push-v3", "reach-v3"))
        splits = [Split(classes, seed) for classes in lists for seed in (1, 2)]
        found = [goals_of(split) for split in splits]
        assert len(list(folder.iterdir())) == 6
        for split, drawn in zip(splits, found, strict=True):
            assert tuple(drawn) == split.classes == tuple(goals_of(split))
        drawn = [each["reach-v3"].rand_vecs.tobytes() for each in found]
        # A class that is drawn first has the same goals whatever follows; no others agree.
        assert len(set(drawn)) == 4

    @pytest.mark.parametrize(
        "damage",
        [
            lambda good: good[: len(good) // 2],
            lambda good: good[:-10],
            lambda good: good[:9000] + b"\xff\x00\xff" + good[9003:],
            lambda good: b"",
            lambda good: b"no archive",
            lambda good: pickle.dumps({"state": 1}),
        ],
        ids=["half", "short", "changed", "empty", "garbage", "pickle"],
    )
    def test_a_damaged_file_is_made_anew(self, folder, capsys, damage):
        goals_of(REACH)
        (path,) = folder.iterdir()
        good = path.read_bytes()
        path.write_bytes(damage(good))
        capsys.readouterr()
        goals_of(REACH)
        said = capsys.readouterr().err
        assert f"{path} is not used (" in said
        assert "made again" in said
        assert path.read_bytes() == good
        assert list(folder.iterdir()) == [path]

    def test_nothing_is_unpickled(self, folder, capsys):
        """An array of objects in the file would run code when read."""
        path, good, arrays = self.kept(folder)
        marker = folder / "run"
        arrays["reach-v3/obs"] = np.array([Runs(str(marker))] * 3, dtype=object)
        goals_file.write(path, goals._made_from(REACH), arrays)
        goals_of(REACH)
        assert "Object arrays cannot be loaded" in capsys.readouterr().err
        assert not marker.exists()
        assert path.read_bytes() == good

    def test_a_file_that_lacks_something_is_made_anew(self, folder, capsys):
        path, good, arrays = self.kept(folder)
        del arrays["reach-v3/state"]
        goals_file.write(path, goals._made_from(REACH), arrays)
        assert goals_of(REACH)["reach-v3"].snapshot(0).state.size
        assert "KeyError: 'state'" in capsys.readouterr().err
        assert path.read_bytes() == good

    def test_goals_of_something_else_are_not_believed(self, folder, capsys):
        """Even if they are whole, such as those of another seed under this name."""
        path, good, arrays = self.kept(folder)
        goals_file.write(path, goals._made_from(REACH._replace(seed=2)), arrays)
        goals_of(REACH)
        assert "its content is not what was written there" in capsys.readouterr().err
        assert path.read_bytes() == good

    def test_each_changed_byte_is_found(self, folder, rng):
        path, good, _ = self.kept(folder)
        for place in (*range(100), *rng.integers(len(good), size=200)):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            with pytest.raises(UserError, match="not what was written"):
                goals_file.read(path, goals._made_from(REACH), 3)

    def test_a_file_that_another_may_have_written_is_not_believed(
        self, folder, monkeypatch, capsys
    ):
        path, *_ = self.kept(folder)
        with monkeypatch.context() as patch:
            owner = path.stat().st_uid or 1000
            os.chown(path, owner, -1) if os.geteuid() == 0 else None
            patch.setattr("os.geteuid", lambda: owner + 1)
            goals_of(REACH)
            assert f"it belongs to user {owner}" in capsys.readouterr().err
        path.chmod(0o666)
        goals_of(REACH)
        assert "every user may write it" in capsys.readouterr().err
        goals_of(REACH)
        assert not path.stat().st_mode & stat.S_IWOTH

    def test_a_pipe_does_not_hang_and_a_link_is_not_written_through(self, folder, capsys):
        path, good, _ = self.kept(folder)
        path.unlink()
        os.mkfifo(path)
        goals_of(REACH)
        assert "no regular file" in capsys.readouterr().err
        assert path.read_bytes() == good
        other = folder.parent / "other"
        other.write_text("another's")
        path.unlink()
        path.symlink_to(other)
        goals_of(REACH)
        assert other.read_text() == "another's"
        assert path.read_bytes() == good

    def kept(self, folder):
        """Returns the file of REACH, its bytes and its arrays."""
        goals_of(REACH)
        (path,) = folder.iterdir()
        return path, path.read_bytes(), goals_file.read(path, goals._made_from(REACH), 3)

    def test_where_nothing_can_be_kept_the_goals_are_drawn_all_the_same(self, folder, capsys):
        kept = goals_of(REACH)["reach-v3"]
        folder.rename(folder.with_name("elsewhere"))
        folder.write_text("a file where the folder is to be")
        found = goals_of(REACH)["reach-v3"]
        assert "cannot be written" in capsys.readouterr().err
        np.testing.assert_array_equal(found.rand_vecs, kept.rand_vecs)
        assert_equal(found.snapshot(2), kept.snapshot(2))

    def test_the_folder(self, folder, monkeypatch, tmp_path):
        assert cache_folder() == folder
        monkeypatch.delenv("METARL_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "metarl"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        assert cache_folder() == tmp_path / "home" / ".cache" / "metarl"

    def test_a_user_without_a_home_draws_goals_each_time(self, folder, monkeypatch, capsys):
        """As an arbitrary user of a container is."""
        kept = goals_of(REACH)["reach-v3"]
        for name in ("METARL_CACHE", "XDG_CACHE_HOME", "HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr("os.getuid", lambda: 54321)
        np.testing.assert_array_equal(goals_of(REACH)["reach-v3"].rand_vecs, kept.rand_vecs)
        assert "there is no home folder" in capsys.readouterr().err


class Runs:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")
