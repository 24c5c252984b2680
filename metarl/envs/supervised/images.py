"""Few-shot episodes from image folders: Omniglot, and any folder with a subfolder per class."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from metarl.config.settings import FewShotEnvConfig
from metarl.envs.supervised.episodes import Episodes
from metarl.envs.supervised.labelled import missing
from metarl.envs.supervised.picture import picture
from metarl.envs.supervised.picture_bounds import MOST_BYTES
from metarl.errors import UserError
from metarl.found import check_file
from metarl.runs.inputs import Preprocessing
from metarl.text import say

SUFFIXES = frozenset(".bmp .gif .jpeg .jpg .pgm .png .ppm .tif .tiff .webp".split())
"""Files with other suffixes are ignored."""
LAYOUTS = {
    "omniglot": (("images_background", "images_evaluation"), ("ALPHABET", "CHARACTER")),
    "images": (("train", "test"), ("CLASS",)),
}
"""Folders of the training and of the test split, and the levels of folders within them, by the
name of the tasks."""
VINYALS_TRAINED = 1200
"""Characters that are trained on, of both folders together (arXiv:1606.04080, section 4.1.1)."""
VINYALS_KEY = 1606_04080
"""Key of the order of characters, sorted by name, whose first ones are trained on."""
SECONDS = 5.0
"""Time between progress lines, s."""


def omniglot(env: FewShotEnvConfig, variant: str) -> Episodes:
    """Returns episodes of Omniglot, [1, image_size, image_size], with ink 1 and paper 0.

    Classes are ALPHABET/CHARACTER. As in Lake et al. 2015, the alphabets in PATH/images_background
    are for training and those in PATH/images_evaluation for testing. Published few-shot results
    since arXiv:1606.04080 mix both sets and train on 1,200 of the 1,623 characters: the variant
    `vinyals`. Which ones was not published; here they are the first 1,200 in an order that depends
    on `VINYALS_KEY` alone. The published classes are turned too, `rotations` "all".

    Raises:
        UserError: of `vinyals`, for a folder of fewer characters than it needs.
    """
    return _episodes(env, ink=True, trained=VINYALS_TRAINED if variant == "vinyals" else 0)


def folder(env: FewShotEnvConfig, variant: str) -> Episodes:
    """Returns episodes of the images PATH/train/CLASS/* and PATH/test/CLASS/*.

    Images are [channels, image_size, image_size]: one channel if all files are gray, else RGB.
    Images that are not square are rescaled to a square, not cropped."""
    del variant
    return _episodes(env, ink=False)


def files(env: FewShotEnvConfig) -> dict[str, Path]:
    """Returns the images of both splits by their names relative to `env.path`.

    Raises:
        UserError: for folders that are missing, nested too deep or not deep enough, and for what
            is no regular file or too large; a link to a file is one.
    """
    root, each = Path(env.path).expanduser(), _both(env)
    images = [file for classes in each for listed in classes.values() for file in listed]
    try:
        for file in images:
            check_file(file, MOST_BYTES)
    except OSError as error:  # such as a link to nothing
        raise UserError(f"{file} cannot be read: {error.strerror}; take it out") from None
    return {file.relative_to(root).as_posix(): file for file in images}


def _both(env: FewShotEnvConfig) -> tuple[dict[str, list[Path]], ...]:
    """Returns the classes of the training and of the test split, with their files."""
    root, (splits, levels) = Path(env.path).expanduser(), _layout(env)
    return tuple(_classes(root / split, levels) for split in splits)


def _layout(env: FewShotEnvConfig) -> tuple[tuple[str, str], tuple[str, ...]]:
    return LAYOUTS[env.name.partition(":")[0]]


def _mixed(
    train: dict[str, list[Path]], test: dict[str, list[Path]], env: FewShotEnvConfig, trained: int
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Returns `trained` of the classes of both splits, and the others."""
    together = {**train, **test}
    if (number := len(together)) < trained + env.ways:
        raise UserError(
            f"{env.path} has {number:,} characters, and {env.name} trains on {trained:,} and tests "
            f"on at least {env.ways} others\ngive all of Omniglot, or take --env omniglot"
        )
    order = np.random.default_rng(VINYALS_KEY).permutation(sorted(together)).tolist()
    first, rest = sorted(order[:trained]), sorted(order[trained:])
    return {name: together[name] for name in first}, {name: together[name] for name in rest}


def _episodes(env: FewShotEnvConfig, ink: bool, trained: int = 0) -> Episodes:
    """Reads the images of both splits into episodes; with `trained`, of as many classes in training
    of both folders.

    Raises:
        UserError: for folders nested too deep or not deep enough, an unreadable image, and a
            class in both splits.
    """
    train, test = _both(env)
    if both := sorted(train.keys() & test.keys()):
        root, splits = Path(env.path).expanduser(), _layout(env)[0]
        raise UserError(
            f"{root}: class {both[0]!r} is in {splits[0]} and in {splits[1]}; leave it out of one"
        )
    if trained:
        train, test = _mixed(train, test, env, trained)
    classes = {**train, **test}
    files = [file for each in classes.values() for file in each]
    labels = np.repeat(np.arange(len(classes)), [len(each) for each in classes.values()])
    images = _read_all(files, env.image_size, env.name, gray=ink)
    notes = [
        f"{env.name}: {len(files)} images of {len(train)} classes to train on and {len(test)} to "
        f"test on, as {' x '.join(map(str, images.shape[1:]))}"
    ]
    notes += _same_in_two_classes(images, labels, files)
    return Episodes(
        env.name,
        255 - images if ink else images,
        labels,
        range(len(train)),
        range(len(train), len(classes)),
        env.ways,
        env.rotations,
        class_names=list(classes),
        notes=notes,
        preprocessing=Preprocessing(255.0, 0.0, 1.0, inverted=ink, image_size=env.image_size),
    )


def _same_in_two_classes(images: np.ndarray, labels: np.ndarray, files: list[Path]) -> list[str]:
    """Returns a warning if images of two classes are equal, which nobody can tell apart."""
    first: dict[bytes, int] = {}
    pairs = []
    for row, image in enumerate(images):
        known = first.setdefault(image.tobytes(), row)
        if labels[known] != labels[row]:
            pairs.append((files[known], files[row]))
    if not pairs:
        return []
    one, other = pairs[0]
    return [
        f"warning: {len(pairs)} of {len(files)} images are, at this size, those of another class "
        f"pixel by pixel, such as {one} and {other}"
    ]


def _classes(split: Path, levels: tuple[str, ...]) -> dict[str, list[Path]]:
    """Returns a split's classes and their files, both sorted: file systems order them freely."""
    expected = f"images are expected as {Path(split, *levels, '*')}"
    if not split.is_dir():
        raise missing("folder", split, expected)
    folders = [split]
    for level in levels:
        below = []
        for place in folders:
            images, found = _listed(place)
            if images:
                raise UserError(f"{images[0]} lies where a folder {level} should be; {expected}")
            if not found:
                raise UserError(f"{place} has no folder {level}; {expected}")
            below += found
        folders = below
    classes = {}
    for place in folders:
        images, found = _listed(place)
        if found:
            raise UserError(f"{found[0]} is a folder where images should be; {expected}")
        if not images:
            raise UserError(f"{place} has no image ({', '.join(sorted(SUFFIXES))}); {expected}")
        classes[place.relative_to(split).as_posix()] = images
    return classes


def _listed(place: Path) -> tuple[list[Path], list[Path]]:
    """Returns the images and the folders in a folder, without hidden ones."""
    try:
        entries = sorted(entry for entry in place.iterdir() if not entry.name.startswith("."))
        folders = [entry for entry in entries if entry.is_dir()]
    except OSError as error:
        raise UserError(f"{place} cannot be read: {error.strerror}") from None
    return [x for x in entries if x.suffix.lower() in SUFFIXES and x not in folders], folders


def _read_all(files: list[Path], size: int, title: str, gray: bool) -> np.ndarray:
    """Returns [M, channels, size, size] uint8, one channel if `gray` or if all files have one."""
    images, printed = [], time.monotonic()
    for file in files:
        images.append(picture(file, size, gray))
        if time.monotonic() - printed > SECONDS:
            say(f"{title}: {len(images)} of {len(files)} images read", error=True)
            printed = time.monotonic()
    together = np.empty((len(files), max(map(len, images)), size, size), dtype=np.uint8)
    for row, image in zip(together, images, strict=True):
        row[:] = image  # repeats a gray image's channel if others have three
    return together
