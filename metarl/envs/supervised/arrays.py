"""Few-shot episodes from a user's arrays, from an .npz file and from scikit-learn's digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from metarl.config.settings import FewShotEnvConfig
from metarl.envs.supervised.episodes import Episodes
from metarl.envs.supervised.labelled import checked_labels, missing, plain_classes
from metarl.errors import UserError

KEYS = ("inputs", "labels")


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
    found = _read(path)
    for key in KEYS:
        if key not in found:
            raise UserError(
                f"{path} has no {key!r}; it has {', '.join(found) or 'nothing'}; save it by "
                "np.savez(path, inputs=inputs, labels=labels)"
            )
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
        UserError: if it is not there.
    """
    path = Path(env.path).expanduser()
    if not path.is_file():
        raise missing("file", path, "set env.path to an .npz of inputs and labels")
    return {path.name: path}


def digits(env: FewShotEnvConfig, variant: str) -> Episodes:
    """Returns episodes of scikit-learn's 1,797 handwritten digits, 8 x 8 pixels in [0, 1].

    Digits 0 to 4 are for training, 5 to 9 for testing. Pixels 0 .. 16 are divided by 16."""
    del variant
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    images = found.images[:, None] / 16
    return Episodes(env.name, images, found.target, range(5), range(5, 10), env.ways, env.rotations)


def _read(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays in an .npz file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # a damaged file raises many kinds of errors
        raise UserError(
            f"{path} is not an .npz file of plain arrays ({error}); save it by "
            "np.savez(path, inputs=inputs, labels=labels)"
        ) from None
