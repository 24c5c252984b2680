"""Task distributions by name. Importing this imports neither torch nor a simulator.

A name is `family` or `family:variant`; the family alone means its first variant. A user's own
tasks are named by the place of their code, `package.module:attribute`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from metarl.config.settings import EnvConfig, EvaluationConfig, MetaWorldConfig
from metarl.envs.metaworld.classes import check_mujoco
from metarl.envs.supervised import families
from metarl.errors import UserError, nearest

if TYPE_CHECKING:
    from metarl.types import TaskDistribution


class Entry(NamedTuple):
    module: str
    builder: str
    """Called with (name, variant, horizon)."""
    variants: dict[str, int]
    """Variant -> its default horizon; "" for a family without variants."""
    metaworld: bool = False
    """Whether `builder` takes a MetaWorldConfig besides."""
    evaluation: EvaluationConfig | None = None
    """The family's own protocol, where it has one."""

    @property
    def example(self) -> str:
        """A variant to name, where the catalogue holds a placeholder for many; else empty."""
        return PLACEHOLDERS.get(next(iter(self.variants)), "")


def _metaworld(variant: str = "") -> Entry:
    module = "metarl.envs.metaworld.distribution"
    protocol = EvaluationConfig(tasks=40, steps=1, episodes=10, mode_episodes=3)
    return Entry(module, "benchmark", {variant: 500}, metaworld=True, evaluation=protocol)


PLACEHOLDERS = {"TASK": "reach-v3", "TRAIN,..|TEST,..": "push-v3,reach-v3|sweep-v3"}
"""What stands for variants that are too many to list, and one of them."""
_CHEETAH = {"maml2017": 200, "promp": 100, "varibad": 200}
_ANT = {"maml2017": 200, "gymnasium": 200}

FAMILIES = {
    "half-cheetah-vel": Entry("metarl.envs.mujoco.half_cheetah", "velocity", _CHEETAH),
    "half-cheetah-dir": Entry("metarl.envs.mujoco.half_cheetah", "direction", _CHEETAH),
    "ant-vel": Entry("metarl.envs.mujoco.ant", "velocity", _ANT),
    "ant-dir": Entry("metarl.envs.mujoco.ant", "direction", _ANT),
    "point-goal": Entry("metarl.envs.arrays.point_goal", "PointGoal", {"": 100}),
    "bandit": Entry("metarl.envs.arrays.bandit", "Bandit", {"5": 100, "10": 100}),
    "tabular-mdp": Entry("metarl.envs.arrays.tabular", "TabularMdp", {"": 10}),
    "ml1": _metaworld("TASK"),
    "ml10": _metaworld(),
    "ml25": _metaworld(),
    "ml45": _metaworld(),
    "metaworld": _metaworld("TRAIN,..|TEST,.."),
}


def names() -> list[str]:
    """Every full name, variants spelt out, but for those that a placeholder stands for."""
    return [
        f"{family}:{variant}" if variant else family
        for family, entry in FAMILIES.items()
        for variant in entry.variants
    ]


def protocol(name: str) -> EvaluationConfig | None:
    """How a family is evaluated by those who made it, where that is laid down."""
    entry = FAMILIES.get(name.partition(":")[0])
    return entry.evaluation if entry else None


def refuse_file(name: str) -> None:
    """Raises a UserError for `folder/module.py:attribute`, which names a module's file."""
    file, colon, attribute = name.partition(":")
    if "/" in file or file.endswith(".py"):
        module = file.removesuffix(".py").replace("/", ".")
        place = f"{module}:{attribute if colon else 'ATTRIBUTE'}"
        raise UserError(f"{name!r} is a file; name its module: --env {place}")


def is_own(name: str) -> bool:
    """Whether a name is the place of a user's code."""
    place = re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name)
    return place is not None and name.partition(":")[0] not in FAMILIES


def default_horizon(name: str) -> int:
    """Steps of an episode in the published setting, or as a user's own tasks have it.

    Runs a user's code: only for names that the command line gave.
    """
    refuse_file(name)
    if is_own(name):
        from metarl.envs import own_tasks

        return own_tasks.horizon_of(own_tasks.load(name))
    entry, variant = _find(name)
    return entry.variants[variant]


def configured(env: EnvConfig, named: str | None = None) -> TaskDistribution:
    """What a run's config asks for; see `make`.

    Raises:
        UserError: as `make`, and for settings of Meta-World where other tasks are played.
    """
    entry = FAMILIES.get(env.name.partition(":")[0])
    if env.metaworld != MetaWorldConfig() and not (entry and entry.metaworld):
        raise UserError(
            f"env.metaworld is set, and {env.name!r} has no use for it; leave it out, or choose "
            "ml1:TASK, ml10, ml25, ml45 or metaworld:TRAIN,..|TEST,.."
        )
    return make(env.name, env.horizon, named, env.metaworld)


def make(
    name: str,
    horizon: int,
    named: str | None = None,
    metaworld: MetaWorldConfig | None = None,
) -> TaskDistribution:
    """The distribution called `name`, with episodes of `horizon` steps.

    A user's code is run only if it is `named`: what the command line gave. A config that was
    found in a run's folder cannot have it imported.

    Raises:
        UserError: for an unknown name, a horizon below 1, and code that was not named.
    """
    if is_own(name):
        if name != named:
            raise UserError(
                f"the tasks are {name}, code of your own: it is run only where the command line "
                f"names it\nadd --env {name}"
            )
        from metarl.envs import own_tasks

        return own_tasks.with_horizon(own_tasks.load(name), horizon, name)
    if horizon < 1:
        raise UserError(
            f"a horizon of {horizon} steps leaves nothing to play; "
            f"that of {name!r} is {default_horizon(name)} by default"
        )
    entry, variant = _find(name)
    if entry.metaworld:
        check_mujoco()  # before any of it is imported: another MuJoCo may fail there
    builder: Callable[..., TaskDistribution] = getattr(import_module(entry.module), entry.builder)
    if entry.metaworld:
        asked = name.partition(":")[2]
        return builder(name, asked, horizon, metaworld or MetaWorldConfig())
    return builder(name, variant, horizon)


def _find(name: str) -> tuple[Entry, str]:
    family, _, variant = name.partition(":")
    entry = FAMILIES.get(family)
    if entry is not None:
        if entry.example and variant:
            return entry, next(iter(entry.variants))  # which there are, the family itself knows
        if entry.example:
            named = next(full for full in names() if full.startswith(f"{family}:"))
            raise UserError(f"{name!r} alone is none: {named}, as in '{family}:{entry.example}'")
        variant = variant or next(iter(entry.variants))
        if variant in entry.variants:
            return entry, variant
    if families.is_one(name):
        raise UserError(
            f"{name!r} are supervised tasks, none to be played; `python -m metarl.train` learns "
            "them by the presets sinusoid-* and digits-*"
        )
    near = [full for full in names() if entry or full in _first_of_each()]
    raise UserError(
        f"{name!r} is no task distribution{nearest(name.lower(), near, count=1)}\n"
        "your own are package.module:attribute, see docs/custom_environments.md"
    )


def _first_of_each() -> set[str]:
    firsts = {family: next(iter(entry.variants)) for family, entry in FAMILIES.items()}
    return {f"{family}:{variant}".rstrip(":") for family, variant in firsts.items()}
