"""A whole sweep: the study, its trials, and the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from metarl.comparison.learners import evaluation_of
from metarl.config.own_code import is_place
from metarl.config.settings import AnyConfig, FewShotConfig
from metarl.envs import catalogue as envs
from metarl.errors import UserError
from metarl.runs import directory
from metarl.sweep import running
from metarl.sweep.parameters import Parameter, settings
from metarl.sweep.running import Plan
from metarl.sweep.study import Study, check_optuna
from metarl.sweep.trial import SPLIT
from metarl.text import say

if TYPE_CHECKING:
    from metarl.commands.sweep import SweepOptions


def sweep(
    config: AnyConfig,
    varied: tuple[Parameter, ...],
    options: SweepOptions,
    env: str | None = None,
    agent: str | None = None,
) -> Path:
    """Runs or continues a sweep in the folder `config.run_dir`; returns that folder.

    Args:
        env, agent: code of a user's own that the command line named.

    Raises:
        UserError: without Optuna, for tasks too few to keep some apart, for a folder with another
            sweep, and where all trials fail.
    """
    check_optuna()
    minimise = _check_tasks(config, options, env)
    root = Path(config.run_dir).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    own = env if env and is_place(env) else None, agent if agent and is_place(agent) else None
    trials = _trials(varied, options)
    plan = Plan(root, config, varied, trials, options.jobs, options.select_on, *own)
    with directory.locked(directory.RunDirectory(root)):
        about = {
            "format": 1,
            "config": settings(config),
            "parameters": [str(parameter) for parameter in varied],
            "sampler": options.sampler,
            "pruner": options.pruner,
            "select_on": options.select_on,
        }
        warmup = config.iterations // running.STARTS
        study = Study(
            root, varied, about, options.sampler, options.pruner, config.seed, minimise, warmup
        )
        done = len(study.finished())
        say(f"{root}: {done} of {trials} trials done")
        running.run(plan, study)
        _tell(plan, study, about)
    return root


def _trials(varied: tuple[Parameter, ...], options: SweepOptions) -> int:
    """Returns the number of trials; a grid has no more than its points."""
    if options.sampler != "grid":
        return options.trials
    points = 1
    for parameter in varied:
        points *= len(parameter.grid())
    if points != options.trials:
        say(f"the grid has {points} points")
    return min(points, options.trials)


def _check_tasks(config: AnyConfig, options: SweepOptions, env: str | None) -> bool:
    """Checks that tasks can be kept apart; returns whether lower values are better.

    Raises:
        UserError: for a family of too few tasks.
    """
    tasks: Any = envs.configured(config.env, env)
    if options.select_on == "validation":
        from metarl.envs.validation import with_validation

        with_validation(tasks)
    else:
        say("trials are judged by their own training tasks, which favours settings that overfit")
    return isinstance(config, FewShotConfig) and not tasks.spec.classes


def _tell(plan: Plan, study: Study, about: dict[str, Any]) -> None:
    """Prints and writes the results."""
    from metarl.sweep import results  # imports matplotlib

    best = study.complete()
    if not best:
        raise UserError(f"no trial in {plan.root} has a value; the logs are in {plan.root}/logs")
    measure = evaluation_of(plan.folder(best[0].number), SPLIT).measure
    say("\n" + results.table(study, measure))
    settings_file, numbers, picture = results.write(plan, study, measure, about)
    say(f"\nbest     {settings_file}\nnumbers  {numbers}\npicture  {picture}")
    say(f"done; next: {results.next_command(plan)}")
