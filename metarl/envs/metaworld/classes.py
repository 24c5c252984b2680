"""The 50 classes of Meta-World, and the classes that each benchmark trains and tests on.

Importing this module imports no simulator.
"""

from __future__ import annotations

from importlib import metadata
from typing import NamedTuple

from metarl.errors import UserError, nearest

CLASSES = (
    "assembly-v3", "basketball-v3", "bin-picking-v3", "box-close-v3", "button-press-topdown-v3",
    "button-press-topdown-wall-v3", "button-press-v3", "button-press-wall-v3", "coffee-button-v3",
    "coffee-pull-v3", "coffee-push-v3", "dial-turn-v3", "disassemble-v3", "door-close-v3",
    "door-lock-v3", "door-open-v3", "door-unlock-v3", "drawer-close-v3", "drawer-open-v3",
    "faucet-close-v3", "faucet-open-v3", "hammer-v3", "hand-insert-v3", "handle-press-side-v3",
    "handle-press-v3", "handle-pull-side-v3", "handle-pull-v3", "lever-pull-v3",
    "peg-insert-side-v3", "peg-unplug-side-v3", "pick-out-of-hole-v3", "pick-place-v3",
    "pick-place-wall-v3", "plate-slide-back-side-v3", "plate-slide-back-v3", "plate-slide-side-v3",
    "plate-slide-v3", "push-back-v3", "push-v3", "push-wall-v3", "reach-v3", "reach-wall-v3",
    "shelf-place-v3", "soccer-v3", "stick-pull-v3", "stick-push-v3", "sweep-into-v3", "sweep-v3",
    "window-close-v3", "window-open-v3",
)  # fmt: skip

RULES_OF = "3.1.1"
"""The version of metaworld that the batched rules reproduce."""


class Split(NamedTuple):
    """The classes of one split, and the seed of its goals."""

    classes: tuple[str, ...]
    seed: int


class Splits(NamedTuple):
    train: Split
    test: Split


def splits_of(name: str, variant: str, seed: int) -> Splits:
    """Returns the splits of `ml1:TASK`, `ml10`, `ml25`, `ml45` or `metaworld:TRAIN,..|TEST,..`.

    Goals are those that metaworld's own benchmarks draw with `seed`; ML1 tests on goals of
    `seed + 1`.

    Raises:
        UserError: for an unknown class, a class listed twice, and a class in both splits.
    """
    family = name.partition(":")[0]
    if family == "ml1":
        _check_class(variant, name)
        return Splits(Split((variant,), seed), Split((variant,), seed + 1))
    if family == "metaworld":
        train, test = _lists(name)
        return Splits(Split(train, seed), Split(test, seed))
    from metaworld import env_dict  # takes half a second

    found = {"ml10": env_dict.ML10_V3, "ml25": env_dict.ML25_V3, "ml45": env_dict.ML45_V3}[family]
    return Splits(*(Split(tuple(found[split]), seed) for split in ("train", "test")))


def _lists(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    train, bar, test = name.partition(":")[2].partition("|")
    lists = tuple(tuple(filter(None, map(str.strip, x.split(",")))) for x in (train, test))
    if not bar or not all(lists):
        raise UserError(
            f"{name!r} does not name two lists of classes; write metaworld:TRAIN,..|TEST,.. as in "
            "'metaworld:push-v3,reach-v3|sweep-v3'"
        )
    for classes in lists:
        for each in classes:
            _check_class(each, name)
            if classes.count(each) > 1:
                raise UserError(f"{each!r} is twice in a list of {name!r}; leave one out")
    if both := [each for each in lists[0] if each in lists[1]]:
        raise UserError(
            f"{', '.join(map(repr, both))} of {name!r} is in the training and the test list; "
            "leave it out of one list (ml1:TASK tests on other goals of the same class)"
        )
    return lists[0], lists[1]


def _check_class(each: str, name: str) -> None:
    if each not in CLASSES:
        raise UserError(f"{each!r} in {name!r} is no Meta-World task{nearest(each, CLASSES)}")


def check_rules() -> None:
    """Checks that the batched rules reproduce the installed metaworld.

    Raises:
        UserError: naming both versions, if they differ.
    """
    found = metadata.version("metaworld")
    if found != RULES_OF:
        raise UserError(
            f"metaworld {found} is installed, but the batched rewards are those of {RULES_OF}\n"
            f"pip install metaworld=={RULES_OF}, or play its own environments: "
            "--env.metaworld.engine reference"
        )


def check_mujoco() -> None:
    """Checks that the installed MuJoCo is the version that metaworld requires.

    Raises:
        UserError: naming both versions, if they differ.
    """
    wanted = [each for each in metadata.requires("metaworld") or () if each.startswith("mujoco")]
    found = metadata.version("mujoco")
    for requirement in wanted:
        _, pinned, version = requirement.partition(";")[0].partition("==")
        if pinned and version.strip() != found:
            raise UserError(
                f"mujoco {found} is installed, but metaworld {metadata.version('metaworld')} needs "
                f"{version}: later versions changed collisions, and so all results\n"
                f"pip install mujoco=={version}"
            )
