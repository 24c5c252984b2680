"""Episodes of labelled arrays: what a task holds, how it is drawn, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from metarl.envs.supervised.episodes import Episodes, distinct
from metarl.errors import UserError

SEEDS = st.integers(0, 2**32 - 1)
SIZES = {3: 7, 10: 5, 11: 9, 40: 6, 41: 5, 42: 12, 50: 5}
"""Label -> examples of it."""
TRAIN, TEST = (3, 10, 11), (40, 41, 42, 50)


def numbered(ways=3, **changes):
    """Episodes whose examples are their own places in the arrays; and the labels."""
    labels = np.random.default_rng(0).permutation(np.repeat(list(SIZES), list(SIZES.values())))
    given = {"train_classes": TRAIN, "test_classes": TEST, **changes}
    return Episodes("numbered", np.arange(len(labels))[:, None], labels, ways=ways, **given), labels


def pictures(ways=4, **changes):
    """Square images, four classes of them, in which no turn is another."""
    inputs = np.random.default_rng(0).integers(256, size=(20, 1, 3, 3)).astype(np.uint8)
    labels = np.repeat(np.arange(4), 5)
    return Episodes("pictures", inputs, labels, [0, 1], [2, 3], ways, "all", **changes), inputs


@given(seed=SEEDS, split=st.sampled_from(["train", "test"]), shots=st.integers(1, 3))
def test_an_episode_shows_as_many_of_each_class_and_none_twice(seed, split, shots):
    """In the order of the task's classes, which are different ones of the split."""
    rng = np.random.default_rng(seed)
    episodes, labels = numbered()
    tasks, queries = episodes.sample(4, rng, split), 5 - shots
    support, query = episodes.draw(tasks, shots, queries, rng)
    for count, (inputs, targets) in ((shots, support), (queries, query)):
        assert inputs.shape == (4, 3 * count, 1)
        assert inputs.dtype == torch.float32
        assert targets.dtype == torch.int64
        assert (targets == torch.arange(3).repeat_interleave(count)).all()
        for k, task in enumerate(tasks):
            assert set(task["classes"]) <= set(TRAIN if split == "train" else TEST)
            assert len(set(task["classes"])) == 3
            shown = labels[inputs[k, :, 0].long().numpy()]
            assert shown.tolist() == [task["classes"][target] for target in targets[k]]
    for k in range(4):
        assert len(set(torch.cat([support.inputs[k], query.inputs[k]])[:, 0].tolist())) == 15


@given(seed=SEEDS, sizes=st.lists(st.integers(4, 50), min_size=1, max_size=4))
def test_distinct_indices_are_below_their_own_count(seed, sizes):
    counts = np.array(sizes)
    found = distinct(counts, 4, np.random.default_rng(seed))
    assert found.shape == (len(sizes), 4)
    assert ((found >= 0) & (found < counts[:, None])).all()
    assert all(len(set(row)) == 4 for row in found.tolist())


@pytest.mark.parametrize(("count", "num"), [(4, 2), (3, 3), (4, 1)])
def test_every_order_of_distinct_indices_is_as_likely(count, num, rng):
    rows = 24_000
    found = Counter(map(tuple, distinct(np.full(rows, count), num, rng).tolist()))
    every = list(permutations(range(count), num))
    p = 1 / len(every)
    assert set(found) == set(every)
    for order in every:
        assert found[order] == pytest.approx(rows * p, abs=5 * np.sqrt(rows * p * (1 - p)))


def test_every_class_has_every_target_as_often(rng):
    episodes, _ = numbered()
    tasks = episodes.sample(6000, rng, "test")
    for place in range(3):
        found = Counter(task["classes"][place] for task in tasks)
        for label in TEST:
            assert found[label] == pytest.approx(1500, abs=5 * np.sqrt(6000 * 3 / 16))


def test_every_example_is_shown_as_often(rng):
    """In the support as in the query, however large its class."""
    episodes, labels = numbered()
    task = {"classes": [3, 11, 10]}
    for examples, count in zip(episodes.draw([task] * 4000, 1, 2, rng), (1, 2), strict=True):
        found = torch.bincount(examples.inputs.flatten().long(), minlength=len(labels))
        for label in task["classes"]:
            p = count / SIZES[label]
            shown = found[torch.from_numpy(labels == label)].numpy()
            np.testing.assert_allclose(shown, 4000 * p, atol=5 * np.sqrt(4000 * p * (1 - p)))


def test_every_seed_can_be_repeated():
    def drawn(seed):
        rng = np.random.default_rng(seed)
        episodes, _ = numbered()
        tasks = episodes.sample(5, rng)
        return tasks, episodes.draw(tasks, 2, 3, rng)

    (once, (support, query)), (again, (same, too)), (other, _) = drawn(5), drawn(5), drawn(6)
    assert once == again != other
    assert torch.equal(support.inputs, same.inputs)
    assert torch.equal(query.inputs, too.inputs)


def test_turned_images_are_classes_of_their_own(rng):
    """[class, degrees], counterclockwise; they stay in their class's split."""
    episodes, inputs = pictures()
    for split, bases in (("train", {0, 1}), ("test", {2, 3})):
        tasks = json.loads(json.dumps(episodes.sample(60, rng, split)))
        named = {tuple(name) for task in tasks for name in task["classes"]}
        assert named == {(base, degrees) for base in bases for degrees in (0, 90, 180, 270)}
        support, _ = episodes.draw(tasks, 2, 1, rng)
        for task, images, targets in zip(tasks, *support, strict=True):
            for image, target in zip(images.numpy(), targets, strict=True):
                label, degrees = task["classes"][target]
                turned = np.rot90(inputs[5 * label : 5 * label + 5] / 255, degrees // 90, (2, 3))
                assert np.isclose(turned, image).all((1, 2, 3)).sum() == 1


def test_bytes_are_shares_of_255(rng):
    inputs = np.array([0, 51, 255, 102] * 2, np.uint8)[:, None]
    episodes = Episodes("bytes", inputs, np.arange(8) // 2, [0, 1], [2, 3], 2)
    support, query = episodes.draw([{"classes": [1, 0]}], 1, 1, rng)
    shown = torch.stack([support.inputs, query.inputs]).sort(0).values
    torch.testing.assert_close(shown.flatten(), torch.tensor([0.4, 0.0, 1.0, 0.2]))


def test_classes_have_names_where_they_are_given(rng):
    labels = np.repeat([0, 1, 2, 3], 2)
    given = np.arange(8)[:, None]
    names = ["ape", "bee", "cat", "dog"]
    episodes = Episodes("animals", given, labels, [0, 3], [1, 2], 2, class_names=names)
    assert {name for task in episodes.sample(9, rng) for name in task["classes"]} == {"ape", "dog"}
    support, _ = episodes.draw([{"classes": ["dog", "bee"]}], 1, 1, rng)
    assert (support.inputs.flatten() // 2).tolist() == [3, 1]
    with pytest.raises(UserError, match="class 'ape' has 2 examples"):
        episodes.check(2, 1)


def test_tasks_are_described():
    episodes, _ = numbered()
    assert episodes.describe({"classes": [40, 3, 11]}) == "40, 3, 11"
    assert episodes.describe({"classes": list(range(20))}) == "0, 1, 2, 3, 4 and 15 others"
    assert pictures()[0].describe({"classes": [[1, 90], [0, 0]]}) == "1 (90°), 0 (0°)"


def test_too_few_examples_name_the_class_and_the_number_needed(rng):
    episodes, _ = numbered()
    said = "numbered: class 10 has 5 examples, and a task takes 6 of each: 2 shots and 4 queries"
    with pytest.raises(UserError, match=said):
        episodes.check(2, 4)
    with pytest.raises(UserError, match=said):
        episodes.draw([{"classes": [3, 10, 11]}], 2, 4, rng)
    episodes.check(2, 3)
    episodes.draw([{"classes": [3, 42, 11]}], 2, 4, rng)  # these have enough


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_classes": (3, 10, 40)}, "class 40 is in the train split and in the test split"),
        ({"train_classes": (3, 10, 12)}, "class 12 of the train split is not among the labels"),
        ({"test_classes": (40, 41)}, "the test split has 2 classes, and a task takes 3"),
        ({"test_classes": (40, 41, 41)}, "the test split has 2 classes, and a task takes 3"),
        ({"test_classes": ()}, "the test split has 0 classes"),
        ({"ways": 1}, "env.ways is 1; a task needs at least 2 classes"),
        ({"rotations": "all"}, r"only square images can be rotated, not examples of shape \(1,\)"),
    ],
)
def test_what_makes_no_episodes_is_refused(changes, said):
    with pytest.raises(UserError, match=said):
        numbered(**changes)


def test_oblong_images_are_not_turned():
    with pytest.raises(UserError, match=r"only square images can be rotated, not .* \(1, 3, 2\)"):
        Episodes("oblong", np.zeros((4, 1, 3, 2)), np.arange(4), [0, 1], [2, 3], 2, "all")
