"""An experiment put together: a preset, catalogue entries in its place, a file's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from metarl.agents import catalogue as agents
from metarl.config import Config, EnvConfig, EvaluationConfig, TrialConfig
from metarl.config_checks import check_ranges
from metarl.config_files import keys, nested, overlay, read_mapping
from metarl.envs import catalogue as envs
from metarl.errors import UserError


def with_agent(config: Config, name: str) -> Config:
    """`config` with another agent; unchanged if it has it already.

    What a preset sets otherwise than its own agent's defaults stays, wherever the defaults of the
    two agree: on the navigation task, with its inner step size of 0.5, ANIL steps as far as MAML.
    How long an evaluation is does not stay between agents of which one alone plays trials: those
    are evaluated whole, others by the default number of steps.
    """
    if config.agent.name == name:
        return config
    new = agents.default(name)
    ours, before, theirs = (keys(x) for x in (config.agent, agents.default(config.agent.name), new))
    kept = {
        key: value
        for key, value in ours.items()
        if key in theirs and value != before[key] and theirs[key] == before[key]
    }
    agent, evaluation = overlay(new, nested(kept), name), config.evaluation
    if isinstance(agent.inner, TrialConfig):
        evaluation = replace(evaluation, steps=agent.inner.steps)
    elif isinstance(config.agent.inner, TrialConfig):
        evaluation = replace(evaluation, steps=EvaluationConfig.steps)
    return replace(config, agent=agent, evaluation=evaluation)


def with_env(config: Config, name: str) -> Config:
    """`config` with another task distribution, at its own horizon and evaluated by its own
    protocol where it has one; unchanged if it has it."""
    name = _variant_spelt_out(name)
    if config.env.name == name:
        return config
    evaluation = config.evaluation
    if envs.protocol(name) != envs.protocol(config.env.name):
        evaluation = envs.protocol(name) or EvaluationConfig()
    env = EnvConfig(name=name, horizon=envs.default_horizon(name))
    return replace(config, env=env, evaluation=evaluation)


def _variant_spelt_out(name: str) -> str:
    """A run says which benchmark it is, also where a family's name alone was given."""
    entry = envs.FAMILIES.get(name)
    if entry is None or entry.example:
        return name
    return next(full for full in envs.names() if full.partition(":")[0] == name)


def load_config(path: Path | str, base: Config | None = None) -> Config:
    """The config in a file; what the file does not set is `base`'s, or else the agent's default.

    Raises:
        UserError: for a file that cannot be read, a key, a type or a range that does not fit.
    """
    settings = read_mapping(Path(path))
    config = base or Config()
    # The names come first: they decide which keys the rest of the file may have.
    if (name := _named(settings, "agent")) is not None:
        config = with_agent(config, name)
    if (name := _named(settings, "env")) is not None and not envs.is_own(name):
        config = with_env(config, name)  # of code, the horizon is known once it may run
    config = overlay(config, settings, str(path))
    config = replace(config, env=replace(config.env, name=_variant_spelt_out(config.env.name)))
    check_ranges(config, str(path))
    return config


def _named(settings: Mapping[str, Any], section: str) -> str | None:
    """`section.name` where it is text; anything else is for `overlay` to refuse."""
    inside = settings.get(section)
    name = inside.get("name") if isinstance(inside, Mapping) else None
    return name if isinstance(name, str) else None


def run_config(run_dir: Path) -> Config:
    """The config that a run was trained with.

    Raises:
        UserError: for a folder that is no run.
    """
    stored = run_dir / "config.yaml"
    if not stored.is_file():
        raise UserError(
            f"{run_dir} is no run: it has no config.yaml\n"
            f"`python -m metarl.train PRESET --run-dir {run_dir}` makes one"
        )
    return load_config(stored)
