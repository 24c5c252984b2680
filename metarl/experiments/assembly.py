"""An experiment put together: a preset, catalogue entries in its place, a file's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from metarl.agents import catalogue as agents
from metarl.agents import catalogue_few_shot as learners
from metarl.config.checks import check_ranges
from metarl.config.files import keys, nested, overlay, read_mapping
from metarl.config.settings import (
    AgentConfig,
    Config,
    EnvConfig,
    EvaluationConfig,
    NoUpdateConfig,
    TrialConfig,
)
from metarl.config.settings_few_shot import FewShotConfig, FewShotEnvConfig, LearnerConfig
from metarl.envs import catalogue as envs
from metarl.envs.supervised import families
from metarl.errors import UserError

Run = TypeVar("Run", bound=Config | FewShotConfig)
Kept = TypeVar("Kept", AgentConfig, LearnerConfig)

NO_OTHER_TASKS = ("metaworld.engine", "shots", "queries")
"""Settings of `env` that make no other tasks: who simulates them, how many examples are seen."""


def with_agent(config: Run, name: str) -> Run:
    """`config` with another agent; unchanged if it has it already.

    What a preset sets otherwise than its own agent's defaults stays, wherever the defaults of the
    two agree: on the navigation task, with its inner step size of 0.5, ANIL steps as far as MAML.
    How long an evaluation is does not stay between agents of which one alone plays trials: those
    are evaluated whole, others by the default number of steps.
    """
    if config.agent.name == name:
        return config
    if isinstance(config, FewShotConfig):
        if name in agents.names() and name not in learners.names():
            raise UserError(
                f"{name!r} learns from reinforcement, and {config.env.name!r} are supervised "
                f"tasks; for those there are {', '.join(learners.names())}"
            )
        if isinstance(config.agent.outer, NoUpdateConfig):
            raise UserError(
                f"{config.agent.name!r} has a preset without training; for {name!r} begin with "
                "that of a learner, such as maml's"
            )
        return replace(config, agent=_renamed(config.agent, learners.default, name))
    if name in learners.names() and name not in agents.names():
        raise UserError(
            f"{name!r} learns supervised tasks, and {config.env.name!r} is for reinforcement "
            f"learning; for that there are {', '.join(agents.names())}"
        )
    agent, evaluation = _renamed(config.agent, agents.default, name), config.evaluation
    if isinstance(agent.inner, TrialConfig):
        evaluation = replace(evaluation, steps=agent.inner.steps)
    elif isinstance(config.agent.inner, TrialConfig):
        evaluation = replace(evaluation, steps=EvaluationConfig.steps)
    return replace(config, agent=agent, evaluation=evaluation)


def _renamed(agent: Kept, default: Callable[[str], Kept], name: str) -> Kept:
    """The settings of `name`, with what `agent` sets otherwise than by default and both have."""
    new = default(name)
    ours, before, theirs = (keys(x) for x in (agent, default(agent.name), new))
    kept = {
        key: value
        for key, value in ours.items()
        if key in theirs and value != before[key] and theirs[key] == before[key]
    }
    return overlay(new, nested(kept), name)


def with_env(config: Run, name: str) -> Run:
    """`config` with another task distribution, at its own horizon and evaluated by its own
    protocol where it has one; unchanged if it has it."""
    if isinstance(config, FewShotConfig):
        return _with_tasks(config, name)
    if families.is_one(name):
        raise UserError(
            f"{name!r} are supervised tasks, and {config.agent.name!r} learns from reinforcement; "
            "begin with a preset of theirs, as in `python -m metarl.train sinusoid-maml`"
        )
    name = _variant_spelt_out(name)
    if config.env.name == name:
        return config
    evaluation = config.evaluation
    if envs.protocol(name) != envs.protocol(config.env.name):
        evaluation = envs.protocol(name) or EvaluationConfig()
    env = EnvConfig(name=name, horizon=envs.default_horizon(name))
    return replace(config, env=env, evaluation=evaluation)


def _with_tasks(config: FewShotConfig, name: str) -> FewShotConfig:
    """Settings of the tasks before that these heed stay."""
    if name == config.env.name:
        return config
    if name.partition(":")[0] in envs.FAMILIES:
        raise UserError(
            f"{name!r} is for reinforcement learning, and {config.agent.name!r} learns supervised "
            "tasks; begin with a preset of its own, as in `python -m metarl.train point-goal`"
        )
    if envs.is_own(name):  # which knows its own data
        kept = replace(FewShotEnvConfig(), shots=config.env.shots, queries=config.env.queries)
        return replace(config, env=replace(kept, name=name))
    heeded = families.heeded(name) - {"rotations"}  # whether turned is other, its own data say
    kept = {key: value for key, value in keys(config.env).items() if key in heeded}
    return replace(config, env=FewShotEnvConfig(**{**kept, "name": families.spelt_out(name)}))


def _variant_spelt_out(name: str) -> str:
    """A run says which benchmark it is, also where a family's name alone was given."""
    entry = envs.FAMILIES.get(name)
    if entry is None or entry.example:
        return name
    return next(full for full in envs.names() if full.partition(":")[0] == name)


def load_config(
    path: Path | str, base: Config | FewShotConfig | None = None
) -> Config | FewShotConfig:
    """The config in a file; what the file does not set is `base`'s, or else the agent's default.

    Raises:
        UserError: for a file that cannot be read, a key, a type or a range that does not fit.
    """
    settings = read_mapping(Path(path))
    config = blank(path) if base is None else base
    # The names come first: they decide which keys the rest of the file may have.
    if (name := _named(settings, "agent")) is not None:
        config = with_agent(config, name)
    if (name := _named(settings, "env")) is not None and not envs.is_own(name):
        config = with_env(config, name)  # of code, the horizon is known once it may run
    config = overlay(config, settings, str(path))
    if isinstance(config, Config):
        config = replace(config, env=replace(config.env, name=_variant_spelt_out(config.env.name)))
    elif families.is_one(config.env.name):
        config = replace(config, env=replace(config.env, name=families.spelt_out(config.env.name)))
    check_ranges(config, str(path))
    return config


def blank(path: Path | str, env: str | None = None) -> Config | FewShotConfig:
    """What the settings in a file are over where no preset is: the tasks decide, those that are
    asked for (`env`) or the file names, else a learner's name that is of one kind alone.

    Raises:
        UserError: for a file that cannot be read.
    """
    settings = read_mapping(Path(path))
    tasks, section = env or _named(settings, "env"), settings.get("env")
    if tasks is not None and not envs.is_own(tasks):
        return FewShotConfig() if families.is_one(tasks) else Config()
    if isinstance(section, Mapping) and "shots" in section:  # a run's own file has them
        return FewShotConfig()
    learner = _named(settings, "agent")
    of_one_kind = tasks is None and learner in learners.names() and learner not in agents.names()
    return FewShotConfig() if of_one_kind else Config()


def _named(settings: Mapping[str, Any], section: str) -> str | None:
    """`section.name` where it is text; anything else is for `overlay` to refuse."""
    inside = settings.get(section)
    name = inside.get("name") if isinstance(inside, Mapping) else None
    return name if isinstance(name, str) else None


def run_config(run_dir: Path) -> Config | FewShotConfig:
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


def few_shot_run(run_dir: Path) -> FewShotConfig:
    """`run_config` of a run on supervised tasks.

    Raises:
        UserError: for a folder that is none, and a run of reinforcement learning.
    """
    config = run_config(run_dir)
    if not isinstance(config, FewShotConfig):
        raise UserError(
            f"{run_dir} learned from reinforcement on {config.env.name!r}; compare runs on the "
            "same supervised tasks"
        )
    return config


def labelled(paths: Sequence[Path], own: str) -> dict[str, Path]:
    """Runs by the shortest name that tells them apart, and from the learner called `own`.

    Raises:
        UserError: where one is named twice.
    """
    whole = {path.resolve(): path for path in paths}
    if len(whole) < len(paths):
        raise UserError(f"--against names a run twice: {', '.join(map(str, paths))}")
    labels = {}
    for path, given in whole.items():
        ends = ["/".join(path.parts[-n:]) for n in range(1, len(path.parts))]
        alone = [x for x in ends if sum(str(other).endswith(f"/{x}") for other in whole) == 1]
        labels[next((x for x in alone if x != own), str(path))] = given
    return labels


def check_same_tasks(name: str, other: Run, config: Run) -> None:
    """Raises a UserError where the run called `name` learned other tasks than this one."""
    theirs, ours = keys(other.env), keys(config.env)
    for key, own in ours.items():
        if theirs[key] != own and key not in NO_OTHER_TASKS:
            raise UserError(
                f"{name} learned with env.{key} {theirs[key]}, this run with {own}; "
                "compare runs of the same tasks"
            )


def meta_rl_run(run_dir: Path) -> Config:
    """`run_config` of a run of reinforcement learning.

    Raises:
        UserError: for a folder that is none, and a run on supervised tasks.
    """
    config = run_config(run_dir)
    if not isinstance(config, Config):
        raise UserError(
            f"{run_dir} learned the supervised tasks {config.env.name!r}; give a run of "
            "reinforcement learning"
        )
    return config
