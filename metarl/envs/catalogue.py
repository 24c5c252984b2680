"""Task distributions by name. Importing this imports neither torch nor a simulator.

A name is `family` or `family:variant`; the family alone means its first variant.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from metarl.errors import UserError, nearest

if TYPE_CHECKING:
    from metarl.types import TaskDistribution


class Entry(NamedTuple):
    module: str
    builder: str
    """Called with (name, variant, horizon)."""
    variants: dict[str, int]
    """Variant -> its default horizon; "" for a family without variants."""


_CHEETAH = {"maml2017": 200, "promp": 100, "varibad": 200}
_ANT = {"maml2017": 200, "gymnasium": 200}

FAMILIES = {
    "half-cheetah-vel": Entry("metarl.envs.half_cheetah", "velocity", _CHEETAH),
    "half-cheetah-dir": Entry("metarl.envs.half_cheetah", "direction", _CHEETAH),
    "ant-vel": Entry("metarl.envs.ant", "velocity", _ANT),
    "ant-dir": Entry("metarl.envs.ant", "direction", _ANT),
    "point-goal": Entry("metarl.envs.point_goal", "PointGoal", {"": 100}),
}


def names() -> list[str]:
    """Every full name, variants spelt out."""
    return [
        f"{family}:{variant}" if variant else family
        for family, entry in FAMILIES.items()
        for variant in entry.variants
    ]


def default_horizon(name: str) -> int:
    """Steps of an episode in the published setting."""
    entry, variant = _find(name)
    return entry.variants[variant]


def make(name: str, horizon: int) -> TaskDistribution:
    """The distribution called `name`, with episodes of `horizon` steps.

    Raises:
        UserError: for an unknown name or a horizon below 1.
    """
    if horizon < 1:
        raise UserError(
            f"a horizon of {horizon} steps leaves nothing to play; "
            f"that of {name!r} is {default_horizon(name)} by default"
        )
    entry, variant = _find(name)
    builder: Callable[..., TaskDistribution] = getattr(import_module(entry.module), entry.builder)
    return builder(name, variant, horizon)


def _find(name: str) -> tuple[Entry, str]:
    family, _, variant = name.partition(":")
    entry = FAMILIES.get(family)
    if entry is not None:
        variant = variant or next(iter(entry.variants))
        if variant in entry.variants:
            return entry, variant
    near = [full for full in names() if entry or full in _first_of_each()]
    raise UserError(f"{name!r} is no task distribution{nearest(name, near, count=1)}")


def _first_of_each() -> set[str]:
    firsts = {family: next(iter(entry.variants)) for family, entry in FAMILIES.items()}
    return {f"{family}:{variant}".rstrip(":") for family, variant in firsts.items()}
