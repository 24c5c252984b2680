"""Episodes of labelled arrays: a user's, those of an .npz file, and scikit-learn's digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from metarl.config.settings_few_shot import FewShotEnvConfig
from metarl.envs.supervised.episodes import Episodes
from metarl.envs.supervised.labelled import checked_labels, plain_classes
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
    """Tasks of `ways` classes from any labelled arrays.

    Args:
        inputs: [M, *shape] finite numbers; uint8 are shares of 255, as in images. Convolutions
            take [M, channels, height, width].
        labels: [M] integers.
        train_classes, test_classes: labels to train on and to test on. One of them alone leaves
            the other all the rest.
        test_fraction: where neither is given, the share of the classes that is held out, at least
            `ways` of them.
        seed: draws which; no run's seed changes them.
        rotations: "train" or "all": images turned by 90, 180 and 270 degrees are classes of their
            own, in training or everywhere.
        name: what errors and reports call it.

    Raises:
        UserError: for arrays that are not as said here, for a class in both splits, and for a
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
    """Of the .npz file at `env.path`: `inputs`, `labels`, and `train_classes`, `test_classes` where
    it has them. Nothing in it is unpickled."""
    del variant
    path = Path(env.path)
    if not path.is_file():
        raise UserError(f"there is no file {path}; set env.path to an .npz of inputs and labels")
    found = _read(path)
    for key in KEYS:
        if key not in found:
            raise UserError(
                f"{path} has no {key!r} but {', '.join(found) or 'nothing'}; save it by "
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


def digits(env: FewShotEnvConfig, variant: str) -> Episodes:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, 0 .. 16 as shares of 16; 0 to 4 to
    train on, 5 to 9 to test on."""
    del variant
    from sklearn.datasets import load_digits

    found: Any = load_digits()
    images = found.images[:, None] / 16
    return Episodes(env.name, images, found.target, range(5), range(5, 10), env.ways, env.rotations)


def _read(path: Path) -> dict[str, np.ndarray]:
    """What an .npz file holds of use here."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # whatever numpy and zipfile make of another file, or a damaged one
        raise UserError(
            f"{path} is no .npz file of plain arrays ({error}); save it by "
            "np.savez(path, inputs=inputs, labels=labels)"
        ) from None
