"""Training, evaluation and results as functions: `metarl.meta_train`, `evaluate`, `results`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metarl.config.checks import check_ranges
from metarl.config.files import overlay
from metarl.config.settings import (
    AnyConfig,
    Config,
    EnvConfig,
    EvaluationConfig,
    FewShotConfig,
    FewShotEnvConfig,
    OwnAgentConfig,
)
from metarl.envs import catalogue as envs
from metarl.errors import UserError
from metarl.experiments.assembly import load_config, run_config, with_agent, with_env
from metarl.experiments.presets import preset
from metarl.runs.pretrained import is_pretrained, run_place
from metarl.runs.seeds import refuse_folder_of_seeds
from metarl.text import quiet, shown

if TYPE_CHECKING:
    from metarl.callbacks.callback import Callback
    from metarl.runs.results import Results


def meta_train(
    config: AnyConfig | str | Path,
    tasks: Any = None,
    *,
    agent: str | None = None,
    callbacks: Sequence[Callback] = (),
    run_dir: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool = False,
    **overrides: Any,
) -> Path:
    """Meta-trains an agent, or continues the run in `run_dir`. Returns the run's folder.

        run = metarl.meta_train("point-goal", iterations=50, settings={"agent.inner.lr": 0.3})

    Args:
        config: the name of a preset, a Config or FewShotConfig, or the path of a YAML file, such as
            a run's config.yaml.
        tasks: what to learn instead of the config's tasks: a distribution such as `gym_tasks(...)`,
            an object or class with `sample` and `make`, supervised tasks such as
            `episodes_from_arrays(...)`, or a name as for `--env`. Code that a name
            `package.module:attribute` refers to is run.
        agent: another agent in the config's place, as for `--agent`.
        callbacks: objects of classes that derive from `metarl.Callback`.
        run_dir: the run's folder; by default the config's, else runs/NAME.
        settings: values by dotted key, as in config.yaml: {"agent.inner.lr": 0.1}.
        progress: whether to show the iterations.
        overrides: settings without a dot, such as `iterations=50` or `seed=2`, or a whole section
            as a mapping: `sampling={"tasks": 10}`.

    Raises:
        UserError: for anything that does not fit, as on the command line.
    """
    found, name = _config(config)
    named_agent = agent
    if agent is not None:
        found = with_agent(found, agent, name if isinstance(config, str) else None)
    elif isinstance(found.agent, OwnAgentConfig) and not isinstance(config, str | Path):
        named_agent = found.agent.name  # the caller has written it
    if isinstance(overrides.get("env"), str):
        if tasks is not None:
            raise UserError("the tasks are given twice, by `tasks` and by `env`; leave one out")
        tasks = overrides.pop("env")
    named = tasks if isinstance(tasks, str) else None
    found, made = _on(found, tasks)
    found = overlay(found, nested({**(settings or {}), **overrides}), "meta_train")
    check_ranges(found, "meta_train")
    made = _as_asked(found, made)
    if run_dir is not None:
        found = replace(found, run_dir=str(run_dir))
    elif not found.run_dir:
        from metarl.commands.train import _run_dir  # the same folders as the command's

        own = found.env.name if tasks is not None else None
        found = replace(found, run_dir=_run_dir(name, agent, own))
    if made is None and named is None:
        _refuse_unnamed(found)
    refuse_folder_of_seeds(found.run_dir, "give one of them, or another place, as run_dir")
    from metarl.loop.training import train  # torch

    with quiet(not progress):
        return train(found, name, made, named, named_agent, callbacks)


def evaluate(
    run: str | Path,
    tasks: Any = None,
    *,
    num_tasks: int | None = None,
    own_tasks: Sequence[Mapping[str, Any]] = (),
    agent: str | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
    **options: Any,
) -> Results:
    """Adapts a run's agent to held-out tasks, writes the evaluation, and returns the results.

        found = metarl.evaluate("runs/point-goal", tasks=40, steps=3, controls=["random"])
        found.summary                # mean, interquartile mean, interval by adaptation step
        found.adaptation.frame()     # a row for each task, step and episode

    Args:
        run: the run's folder.
        tasks: the number of tasks; or their distribution, as for `meta_train`, which a run on tasks
            of your own needs; or the name of another one, as for `--env`; or as `own_tasks`.
        num_tasks: the number of tasks, where `tasks` is a distribution.
        own_tasks: the tasks themselves, such as [{"goal": [0.2, 0.1]}], instead of held-out ones.
        agent: the name of the agent's code, where the agent is your own; it is run.
        callbacks: their `on_evaluation` is called with the results.
        progress: whether to show what is done, and the table.
        options: those of `metarl evaluate`, such as `steps`, `episodes`, `split`, `checkpoint`,
            `controls`, `against`, `seed` and `out`. Defaults are the run's own.

    Raises:
        UserError: for a folder that is no run, and anything that does not fit.
    """
    from metarl.callbacks.group import Callbacks
    from metarl.commands.evaluate import _defaults  # the same as the command's

    told = Callbacks(callbacks)
    if isinstance(tasks, int) and not isinstance(tasks, bool):
        if num_tasks is not None:
            raise UserError("the number of tasks is given twice, by `tasks` and by `num_tasks`")
        tasks, num_tasks = None, tasks
    if isinstance(tasks, list | tuple) and all(isinstance(one, Mapping) for one in tasks):
        tasks, own_tasks = None, tasks
    place = run_place(run)
    if is_pretrained(run):  # it is only read
        options.setdefault("out", f"evaluation-{place.name}")
    config, made, more = _learned(run_config(place), tasks)
    given = {**more, **options, **({} if num_tasks is None else {"tasks": num_tasks})}
    usual = _defaults(place, config)
    asked = overlay(usual, nested(given), "evaluate")
    check_ranges(asked, "evaluate")
    asked = replace(asked, own_tasks=tuple(own_tasks))
    from metarl.loop import evaluation  # torch
    from metarl.runs.results import of_evaluation

    with quiet(not progress):
        picture = evaluation.evaluate(asked, made, config, agent)
    found = of_evaluation(place, picture.parent)
    told.evaluation(found)
    return found


def results(run: str | Path, evaluation: str = "test") -> Results:
    """Returns the results in a run's folder: of training, and of an evaluation.

    Its name is "test" for held-out tasks, "train", "own", "other", or the one that was given.

        found = metarl.results("runs/point-goal")
        found.training.frame().plot("iteration", ["return/step0", "return/step1"])

    Raises:
        UserError: where there is no run, or its files hold something else.
    """
    from metarl.runs.results import of_run

    return of_run(run_place(run), evaluation)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings by dotted keys as a mapping of mappings.

    Raises:
        UserError: for a key that is given twice, as a whole and in part.
    """
    whole: dict[str, Any] = {}
    for key, value in settings.items():
        *sections, last = str(key).split(".")
        inside = whole
        for section in sections:
            inside = inside.setdefault(section, {})
            if not isinstance(inside, dict):
                raise UserError(f"{key} is given twice: {section} has a value as a whole too")
        value = nested(value) if isinstance(value, Mapping) else value
        if isinstance(value, dict) and isinstance(inside.get(last), dict):
            _merge(inside[last], value, key)
        elif last in inside:
            raise UserError(f"{key} is given twice; give it once")
        else:
            inside[last] = value
    return whole


def _merge(into: dict[str, Any], more: Mapping[str, Any], path: str) -> None:
    for name, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            _merge(into[name], value, f"{path}.{name}")
        elif name in into:
            raise UserError(f"{path}.{name} is given twice; give it once")
        else:
            into[name] = value


def _config(config: Any) -> tuple[AnyConfig, str]:
    """Returns a config with the name that heads its progress and names its folder."""
    if isinstance(config, Config | FewShotConfig):
        return config, Path(config.run_dir).name or config.env.name
    if not isinstance(config, str | Path):
        raise UserError(
            f"config is {shown(config)}; give a preset's name, a Config, or a YAML file's path"
        )
    path = Path(config).expanduser()
    if isinstance(config, Path) or path.suffix in (".yaml", ".yml"):
        found = load_config(path)
        return found, Path(found.run_dir).name or path.stem
    return preset(config), config


def _on(config: AnyConfig, tasks: Any) -> tuple[AnyConfig, Any]:
    """Returns a config on other tasks, and these where they are no name."""
    if tasks is None:
        return config, None
    if isinstance(tasks, str):
        return with_env(config, tasks), None
    from metarl.envs import own_tasks

    name, given = own_tasks.given(tasks)
    made: Any = given
    supervised = not hasattr(made, "open")
    if supervised is not isinstance(config, FewShotConfig):
        kind, other = "supervised tasks", "from episodes"
        if not supervised:
            kind, other = "tasks of reinforcement", "from examples"
        raise UserError(
            f"the tasks given are {kind}, and {config.agent.name!r} of the config learns {other}; "
            f"begin with a preset such as {'digits-maml' if supervised else 'point-goal'!r}"
        )
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


def _learned(config: AnyConfig, tasks: Any) -> tuple[AnyConfig, Any, dict[str, Any]]:
    """Returns a run's config with tasks to evaluate it on, and options that these need.

    The tasks are None where the options name them.
    """
    if tasks is None:
        _refuse_unnamed(config)
        return config, envs.configured(config.env), {}
    if isinstance(tasks, str):
        if tasks != config.env.name:
            return config, None, {"env.name": tasks}
        return config, envs.configured(config.env, tasks), {}
    other, made = _on(config, tasks)
    if envs.is_own(config.env.name):  # objects have no name of their own: they are the run's
        return config, _as_asked(config, made), {}
    return other, made, {} if other.env == config.env else {"name": "other-tasks"}


def _as_asked(config: AnyConfig, tasks: Any) -> Any:
    """Returns tasks with the horizon of a config; raises where they lack the examples."""
    if tasks is not None and isinstance(config, Config):
        from metarl.envs import own_tasks

        return own_tasks.with_horizon(tasks, config.env.horizon, config.env.name)
    if isinstance(config, FewShotConfig) and (check := getattr(tasks, "check", None)):
        check(config.env.shots, config.env.queries)  # as `Episodes` has it
    return tasks


def _refuse_unnamed(config: AnyConfig) -> None:
    """Raises a UserError where a config found in a file asks for code that nobody gave."""
    if envs.is_own(config.env.name):
        raise UserError(
            f"the tasks are {config.env.name}, code of your own: it is run only where you give it\n"
            "give the tasks as `tasks=`, or that name if it can be imported"
        )
