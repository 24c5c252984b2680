"""Few-shot episodes from a user's arrays, from an .npz file and from scikit-learn's digits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metarl.config.settings import FewShotEnvConfig
from metarl.envs import npz
from metarl.envs.supervised.episodes import Episodes
from metarl.envs.supervised.labelled import checked_labels, missing, plain_classes
from metarl.errors import UserError
from metarl.found import check_file
from metarl.runs.inputs import Preprocessing
from metarl.text import shown

KEYS = ("inputs", "labels")
SPLITS = ("train_classes", "test_classes")


def episodes_from_arrays(
    inputs: Any,
    labels: Any,
    *,
    ways: int,
    train_classes: Any = None,
    test_classes: Any = None,
    test_fraction: float = 0.25,
    seed: int = 0,
    rotations: str = "none",
    name: str = "arrays",
) -> Episodes:
    """Returns few-shot tasks of `ways` classes from labelled arrays.

    Args:
        inputs: [M, *shape] finite numbers; uint8 is divided by 255, as for images. Convolutions
            take [M, channels, height, width].
        labels: [M] integers.
        train_classes, test_classes: labels to train on and to test on. If one is given, the other
            is all remaining labels.
        test_fraction: if neither is given, the share of the classes that is held out, at least
            `ways` classes.
        seed: decides which classes are held out; the seed of a run does not change them.
        rotations: "train" or "all": images rotated by 90, 180 and 270 degrees are further classes
            in training, or in both splits.
        name: the name in errors and reports.

    Raises:
        UserError: for arrays that break these rules, for a class in both splits, and for a
            split with fewer than `ways` classes.
    """
    if not 0 < test_fraction < 1:
        raise UserError(f"{name}: test_fraction is {test_fraction}; give a share between 0 and 1")
    classes = np.unique(checked_labels(name, labels))
    if test_classes is not None:
        if train_classes is None:
            train_classes = np.setdiff1d(classes, plain_classes(test_classes))
    elif train_classes is not None:
        test_classes = np.setdiff1d(classes, plain_classes(train_classes))
    else:
        held_out = max(ways, round(test_fraction * len(classes)))
        order = np.random.default_rng(seed).permutation(classes)
        train_classes, test_classes = order[held_out:], order[:held_out]
    return Episodes(name, inputs, labels, train_classes, test_classes, ways, rotations)


def arrays(env: FewShotEnvConfig, variant: str) -> Episodes:
    """Returns episodes from the .npz file at `env.path`, without unpickling anything.

    It holds `inputs`, `labels`, and perhaps `train_classes` and `test_classes`."""
    del variant
    (path,) = files(env).values()
    remedy = "save it by np.savez(path, inputs=inputs, labels=labels)"

    def chosen(names: Sequence[str]) -> list[str]:
        for key in KEYS:
            if key not in names:
                has = ", ".join(map(shown, names[:10])) or "nothing"
                raise UserError(f"{path} has no {key!r}; it has {has}; {remedy}")
        return [*KEYS, *(key for key in SPLITS if key in names)]

    try:
        found = npz.read(path, chosen)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except UserError as error:
        if "'|O'" in str(error):  # as numpy saves arrays of unequal shapes
            remedy += ", where all examples have one shape and a type of numbers"
        raise (error if remedy in str(error) else UserError(f"{error}; {remedy}")) from None
    return episodes_from_arrays(
        found["inputs"],
        found["labels"],
        ways=env.ways,
        train_classes=found.get("train_classes"),
        test_classes=found.get("test_classes"),
        rotations=env.rotations,
        name=env.name,
    )


def files(env: FewShotEnvConfig) -> dict[str, Path]:
    """Returns the .npz file at `env.path`, by its name.

    Raises:
        UserError: if it is not there, or larger than the free memory.
    """
    path = Path(env.path).expanduser()
    if not path.is_file():
        raise missing("file", path, "set env.path to an .npz of inputs and labels")
    check_file(path, npz.memory())  # before its hash takes long
    return {path.name: path}


def digits(env: FewShotEnvConfig, variant: str) -> Episodes:
    """Returns episodes of scikit-learn's 1,797 handwritten digits, 8 x 8 pixels in [0, 1].

    Digits 0 to 4 are for training, 5 to 9 for testing. Pixels 0 .. 16 are divided by 16."""
    del variant
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    images = found.images[:, None] / 16
    return Episodes(
        env.name,
        images,
        found.target,
        range(5),
        range(5, 10),
        env.ways,
        env.rotations,
        preprocessing=Preprocessing(16.0, 0.0, 1.0),
    )
