"""The agents by name, made of the inner and outer rules in `rows.py`.

A name is `INNER` or `INNER-OUTER`, as in `maml-trpo`: any inner rule goes with any outer rule that
serves the same source, episodes or examples. Without an outer rule's name it is the source's usual
one. Agents that are more than that have a row of their own.

Importing this imports no torch, so that a command line can be read before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, overload

from metarl.agents.inner.trial import TrialConfig
from metarl.agents.rows import INNER, NAMED, OUTER, Row
from metarl.config import own_code
from metarl.config.files import keys
from metarl.config.settings import (
    AgentConfig,
    AnyAgentConfig,
    AnyConfig,
    Config,
    FewShotAgentConfig,
    OwnAgentConfig,
    Source,
)
from metarl.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np
    import torch


def outer_names(source: Source) -> tuple[str, ...]:
    """Returns the names of the outer rules that go with every inner rule of a source."""
    return tuple(name for name, (_, settings) in OUTER.items() if source in settings.sources)


def _row(name: str, source: Source) -> Row | None:
    """Returns the agent called `name` on a source, if there is one."""
    if (row := NAMED.get(name)) and row.source == source:
        return row
    inner_name, _, outer_name = name.rpartition("-")
    if outer_name not in outer_names(source):
        inner_name, outer_name = name, outer_names(source)[0]
    inner = INNER.get(inner_name)
    settings = getattr(inner, source, None)
    if inner is None or settings is None:
        return None
    summary, outer = OUTER[outer_name]
    parts = inner.parts if source == "episodes" else {}
    return Row(f"{inner.summary}; {summary}", settings, outer, source, parts)


def names(source: Source) -> tuple[str, ...]:
    """Returns the names of all agents on a source, each once."""
    usual, *others = outer_names(source)
    endings = [f"-{usual}" if source == "episodes" else "", *(f"-{other}" for other in others)]
    inner = [name for name, rule in INNER.items() if getattr(rule, source) is not None]
    composed = [name + ending for name in inner for ending in endings]
    return (*composed, *(name for name, row in NAMED.items() if row.source == source))


def _names_of_rules(word: str, source: Source) -> tuple[str, ...]:
    """Returns the names to look for a misspelt one in: without an outer rule, the usual ones."""
    usual, *others = outer_names(source)
    if word.endswith(tuple(f"-{outer}" for outer in (usual, *others))):
        return names(source)
    return tuple(
        name for name in names(source) if not name.endswith(tuple(f"-{x}" for x in others))
    )


def like(name: str, source: Source) -> str | None:
    """Returns the agent on a source that has the inner rule of one of the other source, if any."""
    inner = name if name in INNER else name.rpartition("-")[0] or name
    alike = (other for other in names(source) if f"{other}-".startswith(f"{inner}-"))
    return next(alike, None)


def rules(name: str, source: Source) -> tuple[str, str]:
    """Returns the names of an agent's inner and outer rule, which are those of their files."""
    agent = default(name, source)
    return tuple(type(rule).__module__.rpartition(".")[2] for rule in (agent.inner, agent.outer))  # pyright: ignore[reportReturnType]


def summary(name: str, source: Source) -> str:
    """Returns an agent in a line."""
    row = _row(name, source)
    return row.summary if row else ""


def is_one(name: str, source: Source) -> bool:
    """Returns whether an agent on that source is called `name`."""
    return _row(name, source) is not None


@overload
def default(name: str, source: Literal["episodes"] = "episodes") -> AgentConfig: ...
@overload
def default(name: str, source: Literal["examples"]) -> FewShotAgentConfig: ...
def default(name: str, source: Source = "episodes") -> AnyAgentConfig:
    """Returns the settings that an agent starts from.

    Raises:
        UserError: for a name that is not in the catalogue.
    """
    row = _row(name, source)
    if row is None:
        kind = "agent" if source == "episodes" else "agent on supervised tasks"
        word = name.lower().replace("_", "-")
        raise UserError(f"{name!r} is no {kind}{nearest(word, _names_of_rules(word, source))}")
    if source == "examples":
        return FewShotAgentConfig(name=name, inner=row.inner, outer=row.outer)
    return AgentConfig(name=name, inner=row.inner, outer=row.outer, **row.parts)


def unserved(config: AnyAgentConfig) -> tuple[str, ...]:
    """Returns the settings that the agent has no counterpart of."""
    row = NAMED.get(config.name)
    return row.unserved if row else ()


def observes_task(config: AnyAgentConfig | OwnAgentConfig) -> bool:
    """Returns whether the agent observes the numbers of its task."""
    row = NAMED.get(config.name)
    return row is not None and row.observes_task


def is_control(config: AnyAgentConfig | OwnAgentConfig) -> bool:
    """Returns whether nothing that the agent learned in training was learned through its steps."""
    if isinstance(config, OwnAgentConfig):
        return False
    return not (config.outer.learns and config.inner.training_steps)


def no_inner_lr(config: AnyAgentConfig | OwnAgentConfig) -> str | None:
    """Returns why an inner step size would change nothing; None where it would."""
    if isinstance(config, OwnAgentConfig):
        return "is your own and has no settings"
    if not hasattr(config.inner, "lr"):
        return "adapts without a step size"
    return "has learned its step sizes" if config.inner.learns_lr else None


def check(config: AnyAgentConfig) -> str:
    """Returns the `module:class` of the agent that `config` describes.

    Raises:
        UserError: for settings without effect or in contradiction, and rules that do not fit.
    """
    inner, outer = config.inner, config.outer
    if unused := {**inner.without_effect(config), **outer.without_effect(config)}:
        raise UserError(
            f"agent {config.name!r} makes no use of {' and '.join(unused)}: "
            f"{next(iter(unused.values()))}\n  leave it out, or take another --agent"
        )
    row = NAMED.get(config.name)
    place = (row and row.agent) or inner.agents.get(config.source)
    if place is None or inner.family not in outer.fits or config.source not in outer.sources:
        raise UserError(
            f"agent {config.name!r} has rules that do not go together: {type(inner).__name__} "
            f"inside, {type(outer).__name__} outside, learning from {config.source}"
        )
    _check_served(config)
    _check_deviations(config)
    inner.check(config)
    outer.check(config)
    return place


GROUPED = "metarl.agents.policy_gradient:PolicyGradientAgent"
"""The agent whose update can go in groups of tasks."""


def grouped(config: AnyAgentConfig | OwnAgentConfig) -> bool:
    """Returns whether the agent's update can go in groups of tasks, `--task-batch`."""
    if isinstance(config, OwnAgentConfig) or not config.outer.learns:
        return False
    row = NAMED.get(config.name)
    return ((row and row.agent) or config.inner.agents.get(config.source)) == GROUPED


def check_trials(config: AnyConfig) -> None:
    """Raises a UserError for a memory that is too short for a trial of these episodes."""
    inner = getattr(config.agent, "inner", None)
    if isinstance(config, Config) and isinstance(inner, TrialConfig):
        inner.window_of(config.env.horizon)


def check_task_batch(config: AnyConfig) -> None:
    """Raises a UserError for groups of tasks that would change nothing."""
    if not isinstance(config, Config) or not (group := config.task_batch):
        return
    if not grouped(config.agent):
        raise UserError(
            f"--task-batch {group}: the update of {config.agent.name!r} does not go in groups of "
            "tasks\n  leave it out; it is for the inner rules under trpo, ppo or vpg, such as "
            "maml-trpo"
        )
    if group >= (tasks := config.sampling.tasks):
        raise UserError(
            f"--task-batch {group} changes nothing: a meta-batch has {tasks} tasks\n"
            "  give less than --sampling.tasks, or leave it out"
        )


def _check_deviations(config: AnyAgentConfig) -> None:
    """Raises a UserError for bounds of the deviation that a new policy is beyond."""
    policy = getattr(config, "policy", None)
    if policy is None or not policy.max_std:
        return
    for name in ("min_std", "init_std"):
        if (value := getattr(policy, name)) > policy.max_std:
            raise UserError(
                f"agent.policy.{name} {value:g} is above agent.policy.max_std {policy.max_std:g}\n"
                "  lower it, or raise the bound; a deviation beyond its bound has no gradient"
            )


def _check_served(config: AnyAgentConfig) -> None:
    """Raises a UserError for settings that the agent has no counterpart of."""
    if not (names := unserved(config)):
        return
    settings, usual = keys(config), keys(default(config.name, config.source))
    if asked := [f"agent.{key}" for key in names if settings[key] != usual[key]]:
        raise UserError(
            f"{config.name} has no counterpart of {' and '.join(asked)}: "
            f"{NAMED[config.name].unserved_why}\n"
            "  leave out what asks for it; a preset's normalisation goes off by "
            "--agent.normalisation.no-observations --agent.normalisation.no-rewards"
        )


def build(
    spec: Any,
    config: AnyAgentConfig | OwnAgentConfig,
    rng: np.random.Generator,
    device: torch.device,
    named: str | None = None,
    task_batch: int = 0,
) -> Any:
    """Returns the agent that `config` describes, before its first update.

    A user's code is run only if it is `named`: what the command line gave. An update computes with
    `task_batch` tasks at a time, 0 for all.

    Raises:
        UserError: where its rules do not serve the tasks, or not each other.
    """
    if isinstance(config, OwnAgentConfig):
        own_code.check_named("agent is", config.name, named, "--agent")
        return own_code.called(config.name, spec, rng, device)
    module, _, name = check(config).partition(":")
    agent = getattr(import_module(module), name)(spec, config, rng, device)  # torch: only now
    if task_batch:
        agent.task_batch = task_batch
    return agent
