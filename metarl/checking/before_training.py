"""The checks of a user's own tasks before every training, in a fraction of a second.

`metarl check-env` makes many more.
"""

from __future__ import annotations

import time
import warnings
from contextlib import closing
from typing import NoReturn

from metarl import keys
from metarl.checking.options import CheckOptions
from metarl.checking.play import Subject, distinct
from metarl.checking.repetition import first_difference
from metarl.config.settings import Config
from metarl.errors import EnvFaultError, TaskWarning, UserError
from metarl.types import BatchedEnv, Task, TaskDistribution, Trajectories, Workers

DRAWS, COMPARED = 8, 8
"""Meta-batches that are drawn, and how many of their different tasks are compared."""
SHORT, LONG = 8, 200
"""The fewest and the most steps of an episode that is played."""
SECONDS = 0.5
"""About as long as all episodes may take; after it no further tasks are compared."""
COMPARED_FIELDS = ("obs", "rewards", "terminated", "truncated", "final_obs", "solved_at")


def check_before_training(distribution: TaskDistribution, config: Config, workers: Workers) -> None:
    """Makes sure that tasks differ, and that each plays the same beside and after another.

    Two environments, at most on one worker process, play the same seeds and random actions in
    several tasks.

    Raises:
        EnvFaultError: if an episode cannot be repeated, though the tasks are deterministic.
        UserError: if there is a single task, if one task changes another, or if whole episodes
            are the same in all tasks that are not `sparse`. A warning if these are cut short.
    """
    subject = Subject(distribution, CheckOptions(episodes=3, seed=config.seed))
    name, rng = subject.spec.name, keys.generator(config.seed, keys.Purpose.TASK_CHECK)
    batch = config.sampling.tasks
    drawn = [task for _ in range(DRAWS) for task in distribution.sample(batch, rng)]
    tasks = distinct(drawn)[:COMPARED]
    if len(tasks) == 1:
        _refuse(
            name,
            f"{len(drawn)} draws of training tasks are all {dict(tasks[0])}: there is nothing to "
            "adapt to; give more values, or name those held out: Choice(values, test=[...])",
        )
    few = workers._replace(count=min(workers.count, 1))
    with closing(distribution.open(2, 1, few)) as env:
        (one, other), started = tasks[:2], time.perf_counter()
        steps = _steps(subject, env, one)
        alone = [_play(subject, env, [task, task], steps) for task in (one, other)]
        if subject.spec.deterministic:
            _check_repeats(name, one, alone[0], _play(subject, env, [one, one], steps))
            beside = _play(subject, env, [one, other], steps)
            for k, task in enumerate((one, other)):
                what = first_difference(_of(alone[k], k), _of(beside, k), [task], "beside another")
                if what:
                    _refuse(name, f"one task changes another: {what}")
        first, found = _of(alone[0], 0), [_of(alone[1], 0)]
        for task in tasks[2:]:
            if first_difference(first, found[-1], [one], ""):
                return
            if time.perf_counter() - started > SECONDS:
                break
            found.append(_of(_play(subject, env, [task, task], steps), 0))
    if first_difference(first, found[-1], [one], "") or subject.spec.sparse:
        return
    what = (
        f"{len(found) + 1} tasks, such as {dict(one)} and {dict(other)}, are the same: equal seeds "
        "and random actions give equal episodes; make sure that the task changes something"
    )
    if all(bool((x.terminated | x.truncated).any()) for x in (first, *found)):
        _refuse(
            name,
            f"{what}, or give sparse=True if random actions seldom get as far as the difference",
        )
    warnings.warn(f"{name}: in {steps} steps {what}", TaskWarning, stacklevel=2)


def _steps(subject: Subject, env: BatchedEnv, task: Task) -> int:
    """Returns how many steps each of up to a dozen plays may take, as measured by a short one."""
    started = time.perf_counter()
    _play(subject, env, [task, task], SHORT)
    seconds = time.perf_counter() - started
    return max(SHORT, min(LONG, int(SHORT * SECONDS / (12 * seconds))))


def _play(subject: Subject, env: BatchedEnv, tasks: list[Task], steps: int) -> Trajectories:
    """Plays an episode of both tasks with the same seeds and actions."""
    return subject.play_draws(env, tasks, steps, subject.draws(2, alike=True))


def _of(played: Trajectories, k: int) -> Trajectories:
    return played._replace(**{name: getattr(played, name)[k : k + 1] for name in COMPARED_FIELDS})


def _check_repeats(name: str, task: Task, first: Trajectories, again: Trajectories) -> None:
    remedy = (
        "reset(seed=...) must draw all chance from the environment's own np_random and restore all "
        "that an episode changes (or give deterministic=False)"
    )
    if not bool((first.obs[:, 0] == again.obs[:, 0]).all()):
        what = f"after an episode the same seed starts another one: {remedy}"
        raise EnvFaultError(name, task, 0, 0, "reset", what)
    for k in range(2):
        if what := first_difference(_of(first, k), _of(again, k), [task], "the second time"):
            what = f"the same seed and actions give another episode, {what}: {remedy}"
            raise EnvFaultError(name, task, 0, 0, "step", what)


def _refuse(name: str, what: str) -> NoReturn:
    raise UserError(f"{name}: {what}\n`metarl check-env` says more of such faults")
