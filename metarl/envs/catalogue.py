"""Catalogue of task distributions by name. It imports neither torch nor a simulator.

A name is `family` or `family:variant`; a family alone means its first variant. A user's own
tasks are named by their code, `package.module:attribute`.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, overload

from metarl.config import own_code
from metarl.config.settings import (
    EnvConfig,
    EvaluationConfig,
    FewShotEnvConfig,
    MetaWorldConfig,
)
from metarl.envs.entry import Entry
from metarl.envs.metaworld.classes import check_mujoco
from metarl.envs.mujoco.rows import ROBOTS
from metarl.envs.supervised import families
from metarl.errors import UserError, nearest

if TYPE_CHECKING:
    from metarl.types import FewShotTasks, TaskDistribution


def _metaworld(summary: str, variant: str = "") -> Entry:
    module = "metarl.envs.metaworld.distribution"
    protocol = EvaluationConfig(tasks=40, steps=1, episodes=10, mode_episodes=3)
    return Entry(module, "benchmark", {variant: 500}, True, protocol, summary)


FAMILIES = {
    **ROBOTS,
    "point-goal": Entry(
        "metarl.envs.arrays.point_goal",
        "PointGoal",
        {"": 100},
        summary="2-D navigation to a goal that only the reward shows",
    ),
    "bandit": Entry(
        "metarl.envs.arrays.bandit",
        "Bandit",
        {"5": 100, "10": 100},
        summary="Bernoulli bandits of 5 or 10 arms",
    ),
    "tabular-mdp": Entry(
        "metarl.envs.arrays.tabular",
        "TabularMdp",
        {"": 10},
        summary="small random Markov decision processes",
    ),
    "sparse-point": Entry(
        "metarl.envs.arrays.sparse_point",
        "SparsePoint",
        {"": 100, "dense": 100},
        summary="2-D navigation to a half circle, rewarded near the goal alone, or densely",
    ),
    "grid-navigation": Entry(
        "metarl.envs.arrays.grid_navigation",
        "GridNavigation",
        {"": 15},
        summary="a 5 x 5 grid with a hidden goal; the Bayes-optimal policy is known",
    ),
    "wind": Entry(
        "metarl.envs.arrays.wind",
        "Wind",
        {"": 75},
        summary="2-D navigation to a known goal in an unknown wind",
    ),
    "t-maze": Entry(
        "metarl.envs.arrays.t_maze",
        "TMaze",
        {"passive": 51, "active": 53},
        summary="a test of memory: the cue for an arm at a corridor's end; length by the horizon",
    ),
    "key-to-door": Entry(
        "metarl.envs.arrays.key_to_door",
        "KeyToDoor",
        {"": 65},
        summary="a test of memory: the colour of a key, asked for after a time with apples",
    ),
    "ml1": _metaworld("Meta-World (MuJoCo): goals of one manipulation task", "TASK"),
    "ml10": _metaworld("Meta-World (MuJoCo): 10 classes of manipulation, others held out"),
    "ml25": _metaworld("Meta-World (MuJoCo): 25 classes of manipulation, others held out"),
    "ml45": _metaworld("Meta-World (MuJoCo): 45 classes of manipulation, others held out"),
    "metaworld": _metaworld("Meta-World (MuJoCo): classes of your choice", "TRAIN,..|TEST,.."),
}

OWN_EXAMPLE = "my_tasks:tasks"
_WEIGHT = '"model.opt.gravity[2]": Uniform(-15, -5)'
VARIED = {
    "Pendulum": '"g": Uniform(5, 15)',
    "Acrobot": '"LINK_LENGTH_1": Uniform(0.5, 2)',
    **dict.fromkeys(("HalfCheetah", "Ant", "Hopper", "Walker2d", "Humanoid", "Swimmer"), _WEIGHT),
    **dict.fromkeys(("InvertedPendulum", "InvertedDoublePendulum", "Reacher", "Pusher"), _WEIGHT),
}
"""Examples of a parameter that differs between tasks, by gymnasium's environments."""

_BEFORE = {f"half-cheetah-{x}:varibad": f"half-cheetah-{x}:gymnasium" for x in ("vel", "dir")}
"""Names that meant other tasks in earlier commits -> what those tasks are called now."""


def meant_before(name: str) -> str:
    """Returns how to go on with an earlier commit's run whose tasks had this name, or nothing."""
    if name not in _BEFORE:
        return ""
    return (
        f"\nif an earlier commit made this run, on {name} with 17 observations: those tasks are "
        f"now called {_BEFORE[name]}; write that as env.name into the run's config.yaml"
    )


def names() -> list[str]:
    """Returns every full name, one for each variant or placeholder."""
    return [
        f"{family}:{variant}" if variant else family
        for family, entry in FAMILIES.items()
        for variant in entry.variants
    ]


def protocol(name: str) -> EvaluationConfig | None:
    """Returns the evaluation protocol that a family's authors defined, if any."""
    entry = FAMILIES.get(name.partition(":")[0])
    return entry.evaluation if entry else None


def has_metaworld(name: str) -> bool:
    """Returns whether a family heeds the settings of a MetaWorldConfig."""
    entry = FAMILIES.get(name.partition(":")[0])
    return entry is not None and entry.metaworld


def is_own(name: str) -> bool:
    """Returns whether a name refers to a user's code: a family's name is always the catalogue's."""
    family = name.partition(":")[0]
    return own_code.is_place(name) and family not in FAMILIES and not families.is_one(name)


def refuse_taken(name: str) -> None:
    """Raises a UserError for a user's module whose name is a family's in the catalogue."""
    family, _, attribute = name.partition(":")
    entry = FAMILIES.get(family)
    known = (entry and entry.example) or name in (*names(), *families.names())
    if own_code.is_place(name) and not is_own(name) and not known:
        raise UserError(
            f"{name!r}: {family!r} is a family of metarl's own tasks, and has no {attribute!r}\n"
            f"if it is a module of yours, give it another name, such as my_{family}:{attribute}"
        )


def default_horizon(name: str) -> int:
    """Returns the steps of an episode in the published setting or in a user's own tasks.

    It runs a user's code, so pass only names that the command line gave.
    """
    own_code.refuse_file(name, "--env")
    if is_own(name):
        from metarl.envs import own_tasks

        tasks = own_tasks.load(name)
        # The spec may make an environment, so it is asked only where there is no `horizon`.
        return getattr(tasks, "horizon", None) or tasks.spec.horizon
    entry, variant = _find(name)
    return entry.variants[variant]


@overload
def configured(env: FewShotEnvConfig, named: str | None = None) -> FewShotTasks: ...
@overload
def configured(env: EnvConfig, named: str | None = None) -> TaskDistribution: ...
def configured(
    env: EnvConfig | FewShotEnvConfig, named: str | None = None
) -> TaskDistribution | FewShotTasks:
    """Returns the tasks that a run's config asks for; see `make`.

    Raises:
        UserError: as in `make`, and for settings that those tasks do not use.
    """
    if isinstance(env, FewShotEnvConfig):
        refuse_taken(env.name)
        return families.own(env, named) if is_own(env.name) else families.build(env)
    if env.metaworld != MetaWorldConfig() and not has_metaworld(env.name):
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
    """Returns the distribution called `name`, with episodes of `horizon` steps.

    A user's code runs only if its name is `named`, the name given on the command line. A config
    found in a run's folder cannot have it imported.

    Raises:
        UserError: for an unknown name, a horizon below 1, or code that was not named.
    """
    if is_own(name):
        own_code.check_named("tasks are", name, named, "--env")
        from metarl.envs import own_tasks

        return own_tasks.with_horizon(own_tasks.load(name), horizon, name)
    entry, variant = _find(name)
    if horizon < 1:
        raise UserError(
            f"a horizon of {horizon} steps leaves nothing to play; "
            f"that of {name!r} is {default_horizon(name)} by default"
        )
    if not entry.metaworld:
        return getattr(import_module(entry.module), entry.builder)(name, variant, horizon)
    check_mujoco()  # before its import, which may fail with another MuJoCo
    builder = getattr(import_module(entry.module), entry.builder)
    return builder(name, name.partition(":")[2], horizon, metaworld or MetaWorldConfig())


def _find(name: str) -> tuple[Entry, str]:
    """Returns a name's entry and variant; for a placeholder, the entry's only variant."""
    family, _, variant = name.partition(":")
    entry = FAMILIES.get(family)
    if entry is None or (not variant and entry.example):
        raise _unknown(name)
    first = next(iter(entry.variants))
    if not variant or entry.example:
        return entry, first
    if variant not in entry.variants:
        raise _unknown(name)
    return entry, variant


def _spelt(name: str) -> str:
    """Returns a name as the catalogue spells names."""
    words = name.lower().replace("_", "-").replace("halfcheetah", "half-cheetah")
    return words.replace("navigation", "point-goal").replace("2d-", "")


def refuse_one_environment(name: str, after: str) -> None:
    """Raises a UserError for the name of a gymnasium environment, such as Pendulum-v1: it says how
    tasks are made of it, and what to do `after` that."""
    family = name.partition(":")[0]
    if not re.search(r"-v\d+$", name) or family in FAMILIES:
        return
    base = re.sub(r"-v\d+$", "", name).rpartition("/")[2]
    parameter = VARIED.get(base, '"gravity": Uniform(5, 15)')
    ours = {"HalfCheetah": "half-cheetah-vel or half-cheetah-dir", "Ant": "ant-vel or ant-dir"}
    have = f" (metarl's own tasks of it: {ours[base]})" if base in ours else ""
    raise UserError(
        f"{name!r} is one environment{have}; write a file my_tasks.py that makes tasks of it:\n"
        f"  from metarl import Uniform, gym_tasks; tasks = gym_tasks({name!r}, "
        f"{{{parameter}}}, horizon=200)\n"
        f"with the parameters that differ between tasks; {after}"
    )


def _unknown(name: str) -> UserError:
    """Returns the error for an unknown name, with the nearest known names."""
    refuse_taken(name)
    refuse_one_environment(name, f"then give --env {OWN_EXAMPLE}")
    family = name.partition(":")[0]
    entry = FAMILIES.get(family)
    if entry and entry.example:
        named = next(full for full in names() if full.startswith(f"{family}:"))
        return UserError(f"{name!r} alone is none: {named}, as in '{family}:{entry.example}'")
    if families.is_one(name):
        return UserError(
            f"{name!r} are supervised tasks, none to be played; `metarl train` learns "
            "them by the presets sinusoid-*, digits-* and glyphs-*"
        )
    alone = [
        f"{each}:{next(iter(row.variants))}" if row.example else each
        for each, row in FAMILIES.items()
    ]
    near = names() if entry else [*alone, *families.names()]
    return UserError(
        f"{name!r} is no task distribution{nearest(_spelt(name), near, count=1)}\n"
        "your own are package.module:attribute, see docs/custom_environments.md"
    )
