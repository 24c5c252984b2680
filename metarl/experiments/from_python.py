"""Arguments of `metarl.meta_train` and `metarl.evaluate` as configs, tasks and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from metarl.config.settings import (
    AnyConfig,
    Config,
    EnvConfig,
    EvaluationConfig,
    FewShotConfig,
    FewShotEnvConfig,
)
from metarl.envs import catalogue as envs
from metarl.errors import UserError
from metarl.experiments.assembly import load_config, with_env
from metarl.experiments.presets import preset, spelt
from metarl.runs.directory import RunDirectory
from metarl.text import shown


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings by dotted keys as a mapping of mappings, with plain values.

    Raises:
        UserError: for a key that is given twice, as a whole and in part, and for no mapping.
    """
    if not isinstance(settings, Mapping):
        raise UserError(f"settings is {shown(settings)}; give a mapping, as {{'seed': 2}}")
    whole: dict[str, Any] = {}
    for key, value in settings.items():
        found = nested(value) if isinstance(value, Mapping) else _plain(value)
        for name in reversed(str(key).split(".")):
            found = {name: found}
        _merge(whole, found, "")
    return whole


def joined(settings: Mapping[str, Any] | None, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings and overrides as `nested`.

    Raises:
        UserError: for a key that both have.
    """
    whole = nested({} if settings is None else settings)
    for name, value in nested(overrides).items():
        _merge(whole, {name: value}, "")
    return whole


def _merge(into: dict[str, Any], more: Mapping[str, Any], path: str) -> None:
    for name, value in more.items():
        key = f"{path}.{name}" if path else name
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value, key)
        elif name in into:
            raise _twice(key)
        else:
            into[name] = value


def _twice(key: str) -> UserError:
    return UserError(f"{key} is given twice; give it once")


def _plain(value: Any) -> Any:
    """Returns numpy's numbers and arrays as Python's, and paths as text."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def take_name(settings: dict[str, Any], section: str, given: Any, argument: str) -> Any:
    """Removes `section.name` from settings, since a name decides what else a section has.

    Returns the name, or what was `given` as `argument`.

    Raises:
        UserError: where both are there.
    """
    inside, place = settings.get(section), section
    if isinstance(inside, str):
        name = settings.pop(section)
    elif isinstance(inside, dict) and "name" in inside:
        name, place = inside.pop("name"), f"{section}.name"
    else:
        return given
    if given is not None:
        what = "the tasks are" if argument == "tasks" else f"the {argument} is"
        raise UserError(f"{what} given twice, by `{argument}` and by `{place}`; leave one out")
    if not isinstance(name, str):
        raise UserError(f"{place} is {shown(name)}; give a name")
    return name


def read_config(config: Any) -> tuple[AnyConfig, str]:
    """Returns a config with the name that heads its progress and names its folder.

    Raises:
        UserError: for anything but a config, the name of a preset, a file, and a run's folder.
    """
    if isinstance(config, Config | FewShotConfig):
        return config, Path(config.run_dir).name or config.env.name
    if not isinstance(config, str | Path):
        raise UserError(
            f"config is {shown(config)}; give a preset's name, a Config, or a YAML file's path"
        )
    path = Path(config).expanduser()
    if str(config) and (stored := RunDirectory(path).config).is_file():
        path = stored
    elif not isinstance(config, Path) and path.suffix not in (".yaml", ".yml"):
        return preset(spelt(config)), spelt(config)
    found = load_config(path)
    return found, Path(found.run_dir).name or path.stem


def on_tasks(config: AnyConfig, tasks: Any) -> tuple[AnyConfig, Any]:
    """Returns a config on other tasks, and these where they are no name.

    Raises:
        UserError: for no tasks, and for those of another kind than the config's agent learns.
    """
    if tasks is None:
        return config, None
    if isinstance(tasks, str):
        return with_env(config, tasks), None
    from metarl.envs import own_tasks

    name, given = own_tasks.given(tasks)
    made: Any = given
    supervised = not hasattr(made, "open")
    if supervised is not isinstance(config, FewShotConfig):
        raise _other_kind(config, supervised)
    if isinstance(config, FewShotConfig):
        env = FewShotEnvConfig(name=name, shots=config.env.shots, queries=config.env.queries)
        return replace(config, env=env), made
    ours = type(made).__module__.startswith("metarl.envs.") and hasattr(made, "spec")
    if ours and type(made).__name__ != "GymTasks" and made.spec.name in envs.names():
        name = made.spec.name
    horizon = getattr(made, "horizon", None) or made.spec.horizon
    env = EnvConfig(name=name, horizon=int(horizon))
    evaluation = config.evaluation
    if envs.protocol(name) != envs.protocol(config.env.name):
        evaluation = envs.protocol(name) or EvaluationConfig()
    return replace(config, env=env, evaluation=evaluation), made


def _other_kind(config: AnyConfig, supervised: bool) -> UserError:
    kind, other, begin = "tasks of reinforcement", "from examples", "point-goal"
    if supervised:
        kind, other, begin = "supervised tasks", "from episodes", "digits-maml"
    return UserError(
        f"the tasks given are {kind}, and {config.agent.name!r} of the config learns {other}; "
        f"begin with a preset such as {begin!r}"
    )


def learned(config: AnyConfig, tasks: Any) -> tuple[AnyConfig, Any, dict[str, Any]]:
    """Returns a run's config with tasks to evaluate it on, and options that these need.

    The tasks are None where the options name them.
    """
    if tasks is None:
        refuse_unnamed(config)
        return config, envs.configured(config.env), {}
    if isinstance(tasks, str):
        if tasks != config.env.name:
            return config, None, {"env": {"name": tasks}}
        return config, envs.configured(config.env, tasks), {}
    other, made = on_tasks(config, tasks)
    if envs.is_own(config.env.name):  # objects have no name of their own: they are the run's
        return config, as_asked(config, made), {}
    return other, made, {} if other.env == config.env else {"name": "other-tasks"}


def as_asked(config: AnyConfig, tasks: Any) -> Any:
    """Returns tasks with the horizon of a config; raises where they lack the examples."""
    if tasks is not None and isinstance(config, Config):
        from metarl.envs import own_tasks

        return own_tasks.with_horizon(tasks, config.env.horizon, config.env.name)
    if isinstance(config, FewShotConfig) and (check := getattr(tasks, "check", None)):
        check(config.env.shots, config.env.queries)  # as `Episodes` has it
    return tasks


def refuse_unnamed(config: AnyConfig) -> None:
    """Raises a UserError where a config found in a file asks for code that nobody gave."""
    if envs.is_own(config.env.name):
        raise UserError(
            f"the tasks are {config.env.name}, code of your own: it is run only where you give it\n"
            "give the tasks as `tasks=`, or that name if it can be imported"
        )


@dataclass(frozen=True)
class Wanted:
    """Tasks and options that a caller of `metarl.evaluate` asks for."""

    tasks: Any
    """Their distribution or its name; None: the run's."""
    own_tasks: tuple[Mapping[str, Any], ...]
    """The tasks themselves; empty: held-out ones."""
    options: dict[str, Any]
    """Options of `metarl evaluate`, nested."""


def wanted(
    tasks: Any, num_tasks: Any, own_tasks: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
) -> Wanted:
    """Returns what the arguments of `metarl.evaluate` ask for.

    Raises:
        UserError: for arguments of another type, and those that contradict each other.
    """
    if "run_dir" in options:
        raise _twice("the run")
    asked = nested(options)
    if isinstance(tasks, Integral | float):
        if num_tasks is not None:
            raise UserError("the number of tasks is given twice, by `tasks` and by `num_tasks`")
        tasks, num_tasks = None, tasks
    own = _own(own_tasks, "own_tasks")
    if isinstance(tasks, Mapping | list | tuple):
        if own:
            raise UserError("the tasks are given twice, by `tasks` and by `own_tasks`; give one")
        tasks, own = None, _own(tasks, "tasks")
        if not own:
            raise UserError("tasks is an empty list; give at least one task, or leave it out")
    if own and num_tasks is not None:
        raise UserError(
            f"num_tasks is {shown(num_tasks)}, and {len(own)} tasks of your own are given; "
            "leave num_tasks out"
        )
    if num_tasks is not None:
        asked["tasks"] = _plain(num_tasks)
    tasks = take_name(asked, "env", tasks, "tasks")
    return Wanted(tasks, own, asked)


def _own(given: Any, argument: str) -> tuple[Mapping[str, Any], ...]:
    """Returns tasks as mappings; one may stand alone."""
    found = [given] if isinstance(given, Mapping) else given
    if not isinstance(found, list | tuple) or not all(isinstance(x, Mapping) for x in found):
        raise UserError(
            f"{argument} is {shown(given)}; give a list of tasks, as [{{'goal': [0.2, 0.1]}}]"
        )
    return tuple(found)
