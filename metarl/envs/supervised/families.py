"""Catalogue of supervised task distributions by name. It imports neither torch nor data readers.

A name is `family` or `family:variant`; a family alone means its first variant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from metarl.config import own_code
from metarl.config.settings import FewShotEnvConfig
from metarl.errors import UserError, nearest

if TYPE_CHECKING:
    from metarl.types import FewShotTasks


class Entry(NamedTuple):
    summary: str
    builder: str
    """module:callable in this package, called with a FewShotEnvConfig and the variant. The module
    of a family that heeds `path` also has `files`, which returns the files that are read."""
    heeds: frozenset[str] = frozenset()
    """Settings that have an effect, besides name, shots and queries."""
    variants: tuple[str, ...] = ("",)


_CLASSES = frozenset({"ways", "rotations"})

FAMILIES = {
    "sinusoid": Entry(
        "sinusoids of random amplitude and phase (arXiv:1703.03400)", "regression:Sinusoid"
    ),
    "polynomial": Entry(
        "random polynomials of a degree", "regression:Polynomial", variants=("2", "3", "5")
    ),
    "digits": Entry("scikit-learn's handwritten digits, 8 x 8 pixels", "arrays:digits", _CLASSES),
    "glyphs": Entry(
        "characters of many scripts, drawn of matplotlib's fonts",
        "glyphs:glyphs",
        frozenset({"ways"}),
    ),
    "arrays": Entry(
        "labelled arrays of a user's own, an .npz file", "arrays:arrays", _CLASSES | {"path"}
    ),
    "omniglot": Entry(
        "characters of many alphabets, from a folder",
        "images:omniglot",
        _CLASSES | {"path", "image_size"},
        ("", "vinyals"),
    ),
    "images": Entry(
        "any folder PATH/train/CLASS/*, PATH/test/CLASS/*",
        "images:folder",
        _CLASSES | {"path", "image_size"},
    ),
}
"""Families by name. Those that heed `ways` are classification; those that heed `path` need it."""


def names() -> list[str]:
    """Returns every full name, one for each variant."""
    return [
        f"{family}:{variant}".rstrip(":")
        for family, entry in FAMILIES.items()
        for variant in entry.variants
    ]


def build(env: FewShotEnvConfig) -> FewShotTasks:
    """Returns the tasks that a run's config asks for, both splits.

    Raises:
        UserError: for an unknown name, settings that it does not heed, missing or wrong data,
            or more shots and queries than a class has examples.
    """
    entry, variant = _find(env.name)
    _refuse_unheeded(env, entry.heeds)
    if "path" in entry.heeds and not env.path:
        raise UserError(f"{env.name!r} is {entry.summary}: say where, --env.path PATH")
    builder: Callable[..., Any] = getattr(_module(entry), entry.builder.partition(":")[2])
    tasks = builder(env, variant)
    if "ways" in entry.heeds:
        tasks.check(env.shots, env.queries)
    return tasks


def files(env: FewShotEnvConfig) -> dict[str, Path]:
    """Returns the files at `env.path` that tasks are read from, by their names within it. It is
    empty for tasks whose data ship with metarl.

    Raises:
        UserError: for an unknown name, and data that are not there.
    """
    entry, _ = _find(env.name)
    return _module(entry).files(env) if "path" in entry.heeds else {}


def _module(entry: Entry) -> Any:
    return import_module(f"metarl.envs.supervised.{entry.builder.partition(':')[0]}")


def own(env: FewShotEnvConfig, named: str | None) -> FewShotTasks:
    """Returns a user's own tasks, if their name is `named`, the one given on the command line.

    Raises:
        UserError: for code that was not named, and settings that it does not heed.
    """
    own_code.check_named("tasks are", env.name, named, "--env")
    from metarl.envs import own_tasks

    tasks = own_tasks.load_supervised(env.name)
    _refuse_unheeded(env, frozenset())
    if hasattr(tasks, "check"):  # as `Episodes` has; checked before the run's folder is made
        tasks.check(env.shots, env.queries)  # pyright: ignore[reportAttributeAccessIssue]
    return tasks


def _refuse_unheeded(env: FewShotEnvConfig, heeds: frozenset[str]) -> None:
    for field in fields(env):
        unheeded = field.name not in heeds | {"name", "shots", "queries"}
        if unheeded and getattr(env, field.name) != field.default:
            users = ", ".join(name for name, other in FAMILIES.items() if field.name in other.heeds)
            raise UserError(
                f"env.{field.name} is {getattr(env, field.name)!r}, and {env.name!r} has no use "
                f"for it; leave it out, or choose {users}"
            )


def _find(name: str) -> tuple[Entry, str]:
    family, _, variant = name.partition(":")
    entry = FAMILIES.get(family)
    if entry is not None:
        variant = variant or entry.variants[0]
        if variant in entry.variants:
            return entry, variant
    raise UserError(
        f"{name!r} is no distribution of supervised tasks{nearest(name.lower(), names(), count=1)}"
    )


def is_one(name: str) -> bool:
    """Returns whether a name refers to supervised tasks."""
    return name.partition(":")[0] in FAMILIES


def spelt_out(name: str) -> str:
    """Returns a name with its variant.

    Raises:
        UserError: for an unknown name.
    """
    _, variant = _find(name)
    return f"{name.partition(':')[0]}:{variant}".rstrip(":")


def heeded(name: str) -> frozenset[str]:
    """Returns the settings that have an effect for a family, besides the name.

    Raises:
        UserError: for an unknown name.
    """
    return _find(name)[0].heeds | {"shots", "queries"}
