"""The size of an evaluation: how many tasks and rounds it has, and whether they are too many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metarl.config.options import EvaluateFewShotOptions, EvaluateOptions
from metarl.config.settings import AnyConfig
from metarl.loop import step_size
from metarl.loop.learners import Learner
from metarl.runs import bounds
from metarl.runs.watch import Watch
from metarl.types import Classes

Options = EvaluateOptions | EvaluateFewShotOptions


def watch_of(learners: Sequence[Learner], config: AnyConfig, tasks: Any, options: Options) -> Watch:
    """Returns what shows how far an evaluation is, by its rounds and those of searches."""
    rounds = options.steps + 1 if isinstance(options, EvaluateOptions) else 1
    number = number_of(tasks, options)
    searched = sum(learner.searched for learner in learners)
    total = len(learners) * number * rounds
    if searched:
        trial = step_size.training_tasks(options, config.agent, tasks)
        total += searched * len(step_size.FACTORS) * number_of(tasks, trial) * rounds
    return Watch(total)


def number_of(tasks: Any, options: Options) -> int:
    """Returns the number of tasks that the options ask for."""
    if options.own_tasks or not isinstance(tasks, Classes):
        return options.tasks
    return options.tasks * tasks.spread(options.split)


def check_size(learners: int, tasks: Any, options: Options, described: int = 0) -> None:
    """Raises a UserError where the results will be too many to be read; `described` are the values
    that describe the tasks, once these are drawn."""
    episodes, arrays = 1, 1
    if isinstance(options, EvaluateOptions):
        episodes, arrays = options.mode_episodes or options.episodes, 3
    bounds.check(
        number_of(tasks, options), options.steps + 1, episodes, learners, arrays, described
    )
