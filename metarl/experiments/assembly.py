"""Assembly of an experiment's config from a preset, catalogue entries and a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

from metarl.agents import catalogue as agents
from metarl.config import own_code
from metarl.config.checks import check_ranges
from metarl.config.files import ADDED, keys, overlay, read_mapping
from metarl.config.settings import (
    AnyConfig,
    EnvConfig,
    EvaluationConfig,
    FewShotConfig,
    FewShotEnvConfig,
    OwnAgentConfig,
)
from metarl.envs import catalogue as envs
from metarl.envs.supervised import families
from metarl.errors import UserError
from metarl.experiments.presets import PRESETS, blank
from metarl.runs import data, directory
from metarl.runs.seeds import first_seed, refuse_folder_of_seeds

NO_OTHER_TASKS = ("metaworld.engine", "shots", "queries", "path")
"""Settings of `env` that do not change the tasks: the simulator, the number of examples, and the
place of the data, whose contents `same_data` compares (data.py)."""


def with_agent(config: AnyConfig, name: str, preset: str | None = None) -> AnyConfig:
    """Returns `config` with another agent; unchanged if it has it already.

    A preset's changes of its own agent's defaults stay if the two agents share the default. For
    example, ANIL keeps the navigation preset's inner step size of 0.5. `preset` names one that may
    have settings for the other agent too, as those of HalfCheetah for CAVIA. The evaluation's
    steps do not stay if only one of the agents plays trials: an agent with trials is evaluated on
    whole trials, others by the default number of steps.
    """
    if config.agent.name == name:
        return config
    own_code.refuse_file(name, "--agent")
    if own_code.is_place(name):
        own: Any = OwnAgentConfig(name=name)
        return replace(config, agent=own)
    _check_kind(config, name)
    if isinstance(config.agent, OwnAgentConfig):  # it has no settings to keep
        source = "examples" if isinstance(config, FewShotConfig) else "episodes"
        return replace(config, agent=agents.default(name, source))
    if isinstance(config, FewShotConfig):
        if not config.agent.outer.learns:
            raise UserError(
                f"{config.agent.name!r} has a preset without training; for {name!r} begin with "
                "the preset of an agent that learns, such as maml's"
            )
        return replace(config, agent=_renamed(config.agent, name, preset))
    agent, evaluation = _renamed(config.agent, name, preset), config.evaluation
    if agent.inner.plays_trials:
        evaluation = replace(evaluation, steps=agent.inner.training_steps)
    elif config.agent.inner.plays_trials:
        evaluation = replace(evaluation, steps=EvaluationConfig.steps)
    return replace(config, agent=agent, evaluation=evaluation)


def _check_kind(config: AnyConfig, name: str) -> None:
    """Raises a UserError for an agent that learns only from the other source."""
    own, other = "episodes", "examples"
    if isinstance(config, FewShotConfig):
        own, other = other, own
    if agents.is_one(name, own) or not agents.is_one(name, other):
        return
    wrong = {
        "episodes": f"{name!r} learns supervised tasks, and {config.env.name!r} is for "
        "reinforcement learning; for that",
        "examples": f"{name!r} learns from reinforcement, and {config.env.name!r} are supervised "
        "tasks; for those",
    }
    if near := agents.like(name, own):
        raise UserError(f"{wrong[own]} there is {near!r}; `metarl list agents` has the others")
    raise UserError(f"{wrong[own]} take another agent: `metarl list agents --kind {own}`")


def _renamed(agent: Any, name: str, preset: str | None) -> Any:
    """Returns the settings of `name`, with `agent`'s changes of defaults that both share, and those
    that the preset has for it."""
    before = agents.default(agent.name, agent.source)
    found = _with_changes(agents.default(name, agent.source), before, agent)
    return PRESETS[preset].tuned(found) if preset else found


def _with_changes(new: Any, before: Any, after: Any) -> Any:
    """Returns `new` with the changes from `before` to `after` of values that it had in common."""
    changes = {}
    for name in vars(new).keys() & vars(before).keys() & vars(after).keys():
        usual, default, value = (getattr(record, name) for record in (new, before, after))
        if is_dataclass(usual):
            changes[name] = _with_changes(usual, default, value)
        elif value != default == usual:
            changes[name] = value
    return replace(new, **changes)


def with_env(config: AnyConfig, name: str) -> AnyConfig:
    """Returns `config` with another task distribution; unchanged if it has it.

    The horizon is the distribution's own; so is the evaluation, if it defines a protocol.
    """
    envs.refuse_taken(name)
    if isinstance(config, FewShotConfig):
        return _with_tasks(config, name)
    if families.is_one(name):
        raise UserError(
            f"{name!r} are supervised tasks, and {config.agent.name!r} learns from reinforcement; "
            "begin with a preset of theirs, as in `metarl train sinusoid-maml`"
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
    """Returns `config` with other supervised tasks, keeping settings that these share."""
    if name == config.env.name:
        return config
    if name.partition(":")[0] in envs.FAMILIES:
        raise UserError(
            f"{name!r} is for reinforcement learning, and {config.agent.name!r} learns supervised "
            "tasks; begin with a preset of its own, as in `metarl train point-goal`"
        )
    envs.refuse_one_environment(name, f"then give --env {envs.OWN_EXAMPLE} to point-goal")
    if envs.is_own(name):  # a user's code knows its own data
        kept = replace(FewShotEnvConfig(), shots=config.env.shots, queries=config.env.queries)
        return replace(config, env=replace(kept, name=name))
    heeded = families.heeded(name) - {"rotations"}  # rotations depend on the new data
    kept = {key: value for key, value in keys(config.env).items() if key in heeded}
    return replace(config, env=FewShotEnvConfig(**{**kept, "name": families.spelt_out(name)}))


def _variant_spelt_out(name: str) -> str:
    """Returns a name with its variant, so that a run records its exact benchmark."""
    if families.is_one(name):
        return families.spelt_out(name)
    entry = envs.FAMILIES.get(name)
    if entry is None or entry.example:
        return name
    return next(full for full in envs.names() if full.partition(":")[0] == name)


def load_config(
    path: Path | str, base: AnyConfig | None = None, preset: str | None = None
) -> AnyConfig:
    """Returns the config in a file; other settings are those of `base`, which may be that of a
    `preset`, or the agent's defaults.

    If the file is the config.yaml of a run, `run_dir` is the folder that it lies in, which may have
    been moved.

    Raises:
        UserError: for a file that cannot be read, a key, a type or a range that does not fit.
    """
    settings = _settings_in(path)
    config = base_of(path) if base is None else base
    # Names come first, since they decide which keys the rest of the file may have.
    if (name := _named(settings, "agent")) is not None:
        config = with_agent(config, name, preset)
    if (name := _named(settings, "env")) is not None and not envs.is_own(name):
        config = with_env(config, name)  # own code gives its horizon once it may run
    config = overlay(config, _as_it_meant(settings, config), str(path))
    env: Any = replace(config.env, name=_variant_spelt_out(config.env.name))
    config = replace(config, env=env)
    check_ranges(config, str(path))
    file = Path(path).expanduser()
    return _in_folder(config, file.parent) if _is_of_a_run(file) else config


def _is_of_a_run(file: Path) -> bool:
    return file.name == "config.yaml" and directory.is_run(file.parent)


def _settings_in(path: Path | str) -> dict[str, Any]:
    """Reads the settings in a file; of a run's, after a look at the run's folder."""
    file = Path(path).expanduser()
    if _is_of_a_run(file):
        directory.check(directory.RunDirectory(file.parent))
    return read_mapping(file)


def _in_folder(config: AnyConfig, folder: Path) -> AnyConfig:
    """Returns a run's config with its present folder, and the present place of its data."""
    config = replace(config, run_dir=str(folder))
    if isinstance(config, FewShotConfig) and config.env.path:
        return with_data(config, data.found(config.env.path, directory.RunDirectory(folder)))
    return config


def _as_it_meant(settings: dict[str, Any], config: AnyConfig) -> dict[str, Any]:
    """Returns a file's settings; one that a run wrote whole, with those that came later.

    An agent's defaults may change, but not what a run was trained with.
    """
    if not settings.keys() >= vars(config).keys() - ADDED.keys():
        return settings
    for key in ADDED.keys() & keys(config).keys():
        *sections, name = key.split(".")
        inside: Any = settings
        for section in sections:
            inside = inside.get(section) if isinstance(inside, dict) else None
        if isinstance(inside, dict):
            inside.setdefault(name, ADDED[key])
    return settings


def with_data(config: AnyConfig, path: str) -> AnyConfig:
    """Returns `config` with data that lie at `path`."""
    env: Any = replace(config.env, path=path)  # pyright: ignore[reportCallIssue]
    return replace(config, env=env)


def base_of(path: Path | str, env: str | None = None) -> AnyConfig:
    """Returns the config that a file's settings are laid over if there is no preset.

    Its kind is that of the requested tasks (`env`), else of the tasks in the file, else of an
    agent that learns from only one source.

    Raises:
        UserError: for a file that cannot be read or is empty.
    """
    settings = _settings_in(path)
    if not settings:  # most likely it was cut; the defaults are a run of hours
        raise UserError(f"{path} has no settings; put back a copy, or give a preset")
    tasks, agent = env or _named(settings, "env"), _named(settings, "agent")
    section = settings.get("env")
    if tasks is not None and not envs.is_own(tasks):
        examples = families.is_one(tasks)
    elif isinstance(section, Mapping) and "shots" in section:  # as in a run's own file
        examples = True
    else:
        examples = (
            tasks is None
            and agent is not None
            and agent in agents.names("examples")
            and agent not in agents.names("episodes")
        )
    return blank("maml", FewShotEnvConfig.name) if examples else blank("maml-trpo", EnvConfig.name)


def _named(settings: Mapping[str, Any], section: str) -> str | None:
    """Returns `section.name` if it is text; `overlay` refuses anything else."""
    inside = settings.get(section)
    name = inside.get("name") if isinstance(inside, Mapping) else None
    return name if isinstance(name, str) else None


def run_config(run_dir: Path) -> AnyConfig:
    """Returns the config that a run was trained with, as `load_config` reads it.

    Raises:
        UserError: for a folder that is not a run, or holds what `directory.check` refuses.
    """
    run = directory.RunDirectory(run_dir)
    directory.check(run)
    stored = run.config
    if not stored.is_file():
        refuse_folder_of_seeds(run_dir, f"give one of them, such as {first_seed(run_dir)}")
        raise UserError(
            f"{run_dir} is no run: it has no config.yaml\n"
            f"`metarl train PRESET --run-dir {quote(str(run_dir))}` makes one"
        )
    return load_config(stored)


def labelled(paths: Sequence[Path], own: str) -> dict[str, Path]:
    """Returns runs by the shortest names that are distinct, also from the learner `own`.

    Raises:
        UserError: if one is named twice.
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


def check_same_tasks(name: str, other: AnyConfig, config: AnyConfig) -> None:
    """Raises a UserError if the run called `name` learned other tasks than this one."""
    if type(other) is not type(config):
        learned = "supervised tasks" if isinstance(other, FewShotConfig) else "from reinforcement"
        raise UserError(
            f"{name} learned {learned}, {other.env.name!r}; compare runs of the same tasks"
        )
    theirs, ours = keys(other.env), keys(config.env)
    for key, own in ours.items():
        if theirs[key] != own and key not in NO_OTHER_TASKS:
            raise UserError(
                f"{name} learned with env.{key} {theirs[key]}, this run with {own}; "
                "compare runs of the same tasks"
            )
