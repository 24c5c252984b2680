"""Training, evaluation and results as functions: `metarl.meta_train`, `evaluate`, `results`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metarl.config.checks import check_ranges
from metarl.config.files import overlay
from metarl.config.settings import OwnAgentConfig
from metarl.errors import UserError
from metarl.experiments import from_python
from metarl.experiments.assembly import run_config, with_agent
from metarl.experiments.defaults import evaluation_options, run_folder
from metarl.experiments.presets import PRESETS, spelt
from metarl.runs.pretrained import is_pretrained, run_place
from metarl.runs.seeds import is_folder_of_seeds, refuse_folder_of_seeds, seeds_of
from metarl.text import quiet, shown

if TYPE_CHECKING:
    from metarl.callbacks.callback import Callback
    from metarl.config.settings import AnyConfig
    from metarl.experiments.from_python import Wanted
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
        config: the name of a preset, a Config or FewShotConfig, the path of a YAML file, or a
            run's folder.
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
    found, name = from_python.read_config(config)
    if isinstance(agent, Mapping):  # the section, as in `sampling={"tasks": 10}`
        overrides, agent = {**overrides, "agent": agent}, None
    asked = from_python.joined(settings, overrides)
    agent = from_python.take_name(asked, "agent", agent, "agent")
    tasks = from_python.take_name(asked, "env", tasks, "tasks")
    found, named_agent = _with_agent(found, agent, config)
    named = tasks if isinstance(tasks, str) else None
    found, made = from_python.on_tasks(found, tasks)
    found = overlay(found, asked, "meta_train")
    check_ranges(found, "meta_train")
    made = from_python.as_asked(found, made)
    own = found.env.name if tasks is not None else None
    found = replace(found, run_dir=_folder(found, run_dir, asked, (name, agent, own)))
    if made is None and named is None:
        from_python.refuse_unnamed(found)
    from metarl.loop.training import train  # torch

    with quiet(not progress):
        return train(found, name, made, named, named_agent, callbacks)


def _with_agent(config: AnyConfig, agent: Any, given: Any) -> tuple[AnyConfig, str | None]:
    """Returns a config with an agent, and the name of the agent's own code where it may be run."""
    if agent is None:
        written = not isinstance(given, str | Path)  # by the caller, and not by a file
        own = written and isinstance(config.agent, OwnAgentConfig)
        return config, config.agent.name if own else None
    if not isinstance(agent, str):
        raise UserError(f"agent is {shown(agent)}; give its name, such as 'promp'")
    preset = spelt(given) if isinstance(given, str) and spelt(given) in PRESETS else None
    return with_agent(config, agent, preset), agent


def _folder(
    config: AnyConfig,
    run_dir: Any,
    settings: Mapping[str, Any],
    named: tuple[str, str | None, str | None],
) -> str:
    """Returns the folder of a run, by default as the command names it.

    Raises:
        UserError: for what is no path, one that is given twice, and a folder of seeds.
    """
    if run_dir is not None and "run_dir" in settings:
        raise UserError("run_dir is given twice, as an argument and as a setting; give one")
    if not isinstance(run_dir, str | os.PathLike | None):
        raise UserError(f"run_dir is {shown(run_dir)}; give the path of a folder")
    folder = os.fspath(run_dir or "") or config.run_dir or run_folder(*named)
    refuse_folder_of_seeds(folder, "give one of them, or another place, as run_dir")
    return folder


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
        run: the run's folder; or a folder of seeds, each of which adapts to the same tasks.
        tasks: the number of tasks; or their distribution, as for `meta_train`, which a run on tasks
            of your own needs; or the name of another one, as for `--env`; or as `own_tasks`.
        num_tasks: the number of tasks, where `tasks` is a distribution.
        own_tasks: the tasks themselves, such as [{"goal": [0.2, 0.1]}], instead of held-out ones.
        agent: the name of the agent's code, where the agent is your own; it is run.
        callbacks: their `on_evaluation` is called with the results, of each seed by itself.
        progress: whether to show what is done, and the table.
        options: those of `metarl evaluate`, such as `steps`, `episodes`, `split`, `checkpoint`,
            `controls`, `against`, `seed` and `out`. Defaults are the run's own.

    Raises:
        UserError: for a folder that is no run, and anything that does not fit.
    """
    from metarl.callbacks.group import checked

    place, told = _place(run), checked(callbacks)
    wanted = from_python.wanted(tasks, num_tasks, own_tasks, options)
    if is_pretrained(run):  # it is only read
        wanted.options.setdefault("out", f"evaluation-{place.name}")
    with quiet(not progress):
        if not is_folder_of_seeds(place):
            return _evaluated(place, wanted, agent, told)
        from metarl.runs.seed_results import of_seeds

        out, found = wanted.options.get("out"), []
        for seed in seeds_of(place):
            if out:
                wanted.options["out"] = str(Path(out, seed.name))
            found.append(_evaluated(seed, wanted, agent, told))
        return of_seeds(place, found)


def _evaluated(
    place: Path, wanted: Wanted, agent: str | None, callbacks: Sequence[Callback]
) -> Results:
    """Evaluates one run, and tells the callbacks."""
    config, made, more = from_python.learned(run_config(place), wanted.tasks)
    usual = overlay(evaluation_options(place, config), more, "evaluate")
    asked = overlay(usual, wanted.options, "evaluate")
    check_ranges(asked, "evaluate")
    asked = replace(asked, own_tasks=wanted.own_tasks)
    from metarl.callbacks.evaluated import tell_of_evaluation
    from metarl.loop import evaluation  # torch

    picture = evaluation.evaluate(asked, made, config, agent)
    return tell_of_evaluation(place, picture.parent, callbacks)


def results(run: str | Path, evaluation: str = "test") -> Results:
    """Returns the results in a run's folder: of training, and of an evaluation.

    Its name is "test" for held-out tasks, "train", "own", "other", or the one that was given. The
    results of a folder of seeds have a column `seed`.

        found = metarl.results("runs/point-goal")
        found.training.frame().plot("iteration", ["return/step0", "return/step1"])

    Raises:
        UserError: where there is no run, or its files hold something else.
    """
    from metarl.runs.results import of_run

    place = _place(run)
    if not is_folder_of_seeds(place):
        return of_run(place, evaluation)
    from metarl.runs.seed_results import of_seeds

    return of_seeds(place, [of_run(seed, evaluation) for seed in seeds_of(place)])


def _place(run: Any) -> Path:
    """Returns the folder of a run, or of seeds."""
    if not isinstance(run, str | os.PathLike):
        raise UserError(f"run is {shown(run)}; give the path of a run's folder")
    return run_place(os.fspath(run))
