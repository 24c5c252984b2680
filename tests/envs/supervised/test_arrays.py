"""Labelled arrays of a user's, of a file, and scikit-learn's digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metarl.config.settings import FewShotEnvConfig
from metarl.envs.supervised.arrays import arrays, digits, episodes_from_arrays
from metarl.errors import UserError

INPUTS = np.arange(60, dtype=np.float64).reshape(30, 2)
LABELS = np.arange(30) % 10


def classes_of(episodes, split):
    tasks = episodes.sample(200, np.random.default_rng(0), split)
    return {name for task in tasks for name in task["classes"]}


@given(st.integers(4, 40), st.floats(0.01, 0.5), st.integers(0, 2**32 - 1))
def test_a_seed_splits_the_classes(num, fraction, seed):
    """All of them, none into both; at least `ways` are held out."""
    labels = np.arange(2 * num) % num
    given = {"ways": 2, "test_fraction": fraction, "seed": seed}
    episodes = episodes_from_arrays(labels[:, None], labels, **given)
    train, test = (classes_of(episodes, split) for split in ("train", "test"))
    assert not train & test
    assert train | test == set(range(num))
    assert len(test) == max(2, round(fraction * num))
    again = episodes_from_arrays(labels[:, None], labels, **given)
    assert classes_of(again, "test") == test


def test_the_seed_decides_which_classes_are_held_out():
    held_out = {
        frozenset(classes_of(episodes_from_arrays(INPUTS, LABELS, ways=2, seed=seed), "test"))
        for seed in range(10)
    }
    assert len(held_out) > 5


@pytest.mark.parametrize("kind", [list, set, np.array])
def test_one_split_leaves_the_rest_to_the_other(kind):
    some = kind([0, 4, 7])
    for split, other in (("train", "test"), ("test", "train")):
        given: dict[str, Any] = {f"{split}_classes": some}
        episodes = episodes_from_arrays(INPUTS, LABELS, ways=3, **given)
        assert classes_of(episodes, split) == set(some)
        assert classes_of(episodes, other) == set(range(10)) - set(some)


def test_lists_are_arrays_too(rng):
    episodes = episodes_from_arrays([[1], [2], [3], [4]], [5, 6, 7, 8], ways=2, test_classes=[6, 7])
    support, _ = episodes.draw([{"classes": [8, 5]}], 1, 0, rng)
    assert support.inputs.tolist() == [[[4.0], [1.0]]]


def broken(value):
    inputs = INPUTS.copy()
    inputs[7, 1] = inputs[9, 0] = value
    return inputs


@pytest.mark.parametrize(
    ("inputs", "labels", "said"),
    [
        (INPUTS, LABELS[:-1], "30 inputs and 29 labels"),
        (broken(np.nan), LABELS, r"inputs\[7\] has a NaN or infinite number, one of 2 such"),
        (broken(-np.inf), LABELS, r"inputs\[7\] has a NaN or infinite"),
        (broken(1e300), LABELS, r"inputs\[7\] has a NaN or infinite"),
        (INPUTS, LABELS.astype(float), r"labels are float64, such as \[0.0\]"),
        (INPUTS, LABELS.astype(str), r"labels are <U21, such as \['0'\]"),
        (INPUTS, LABELS > 4, r"labels are bool, such as \[False\], not integers"),
        (INPUTS, LABELS[:, None], r"labels have shape \(30, 1\)"),
        (INPUTS[:, 0], LABELS, r"inputs have shape \(30,\)"),
        (INPUTS[:, :0], LABELS, r"inputs have shape \(30, 0\)"),
        (INPUTS.astype(str), LABELS, "inputs are <U32; give real numbers"),
        ([[1, 2], [3]], [0, 1], r"inputs\[1\] has the shape \(1,\), and inputs\[0\] has \(2,\)"),
        (
            [np.zeros((1, 28, 28)), np.zeros((1, 30, 28))],
            [0, 1],
            r"inputs\[1\] has the shape \(1, 30, 28\), .*; crop or resize all examples to one",
        ),
        ([[1, [2, 3]], [4, 5]], [0, 1], "inputs cannot become an array"),
    ],
)
def test_arrays_that_are_none_are_refused(inputs, labels, said):
    with pytest.raises(UserError, match=f"^mine: {said}"):
        episodes_from_arrays(inputs, labels, ways=2, name="mine")


def test_a_split_of_too_few_classes_is_refused():
    with pytest.raises(UserError, match="the train split has 4 classes, and a task takes 6"):
        episodes_from_arrays(INPUTS, LABELS, ways=6)
    with pytest.raises(UserError, match=r"test_fraction is 1\.5; give a share"):
        episodes_from_arrays(INPUTS, LABELS, ways=2, test_fraction=1.5)


def saved(tmp_path, **given):
    np.savez(tmp_path / "data.npz", **given)
    return FewShotEnvConfig("arrays", ways=2, path=str(tmp_path / "data.npz"))


def test_a_file_holds_inputs_labels_and_splits(tmp_path, rng):
    env = saved(tmp_path, inputs=INPUTS, labels=LABELS, train_classes=[1, 2], test_classes=[8, 9])
    episodes = arrays(env, "")
    assert classes_of(episodes, "train") == {1, 2}
    assert classes_of(episodes, "test") == {8, 9}
    support, _ = episodes.draw([{"classes": [8, 2]}], 3, 0, rng)
    shown = support.inputs[0, :, 0].sort().values.tolist()
    assert shown == [4.0, 16.0, 24.0, 36.0, 44.0, 56.0], "rows 2, 12, 22 and 8, 18, 28"


def test_a_file_without_splits_is_split_as_arrays_are(tmp_path):
    found = arrays(saved(tmp_path, inputs=INPUTS, labels=LABELS), "")
    same = episodes_from_arrays(INPUTS, LABELS, ways=2)
    assert classes_of(found, "test") == classes_of(same, "test")


def test_files_that_hold_no_arrays_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no 'labels'; it has 'inputs', 'extra'; save"):
        arrays(saved(tmp_path, inputs=INPUTS, extra=LABELS), "")
    with pytest.raises(UserError, match=r"not an \.npz file of plain arrays .*type .\|O"):
        arrays(saved(tmp_path, inputs=np.array([{}, []], object), labels=LABELS), "")
    path = tmp_path / "other.npz"
    env = FewShotEnvConfig("arrays", path=str(path))
    with pytest.raises(UserError, match=f"there is no file {path}"):
        arrays(env, "")
    for other in (b"", b"text", (tmp_path / "data.npz").read_bytes()[:-100]):
        path.write_bytes(other)
        with pytest.raises(UserError, match=f"{path} is not an .npz file of plain arrays"):
            arrays(env, "")
    with open(path, "wb") as file:
        np.save(file, INPUTS)
    with pytest.raises(UserError, match=f"{path} is not an .npz file of plain arrays"):
        arrays(env, "")


def test_digits_are_shares_of_16_and_five_of_them_are_held_out(rng):
    episodes = digits(FewShotEnvConfig("digits"), "")
    assert episodes.spec == ("digits", (1, 8, 8), 5, True)
    assert classes_of(episodes, "train") == {0, 1, 2, 3, 4}
    assert classes_of(episodes, "test") == {5, 6, 7, 8, 9}
    support, query = episodes.draw(episodes.sample(20, rng), 5, 15, rng)
    assert support.inputs.min() == 0
    assert support.inputs.max() == 1
    assert query.inputs.shape == (20, 75, 1, 8, 8)


def test_digits_are_told_apart_by_their_own_kind(rng):
    """Labels and images belong together: the nearest class mean in pixels is right nine times
    in ten."""
    episodes = digits(FewShotEnvConfig("digits"), "")
    support, query = episodes.draw(episodes.sample(40, rng, "test"), 5, 15, rng)
    means = support.inputs.view(40, 5, 5, 64).mean(2)
    offsets = query.inputs.flatten(2)[:, :, None] - means[:, None]  # [K, 75, 5, 64]
    nearest = offsets.square().sum(-1).argmin(-1)
    assert (nearest == query.targets).float().mean() > 0.85
