"""Checks that the splits share no task, that tasks differ, and that observations hide them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import kruskal
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.preprocessing import StandardScaler

from metarl.checking.findings import Broken, Finding, expect
from metarl.checking.play import Subject, key_of
from metarl.errors import UserError
from metarl.runs.plain import plain
from metarl.types import Task, Trajectories

FEW = 100
"""If both splits hold the same tasks and fewer than this, they may be all there are."""
SIGNIFICANT = 0.01
"""p-value below which returns differ between tasks."""
FOLDS = 5
"""Folds of the probe's cross-validation."""
PROBED = 8
"""The most rounds of tasks whose first observations the probe reads."""
LEAKED = 0.5
"""R^2 above which the first observation reveals a parameter."""


def splits(subject: Subject) -> Finding:
    """Checks the tasks of both splits, drawn from equal generators."""
    train, test = subject.sample("train"), subject.sample("test")
    expect(
        [*map(key_of, train)] == [*map(key_of, subject.sample("train"))],
        "the same generator draws other tasks a second time",
        "let sample draw from the given generator only",
    )
    for task in (*train, *test):
        try:
            plain(task)
        except UserError as error:
            raise Broken(
                f"task {task} is not plain data: {error}",
                "a task is {name: value} of finite numbers, strings, lists: float(x), x.tolist()",
            ) from None
    ours, theirs = ({*map(key_of, tasks)} for tasks in (train, test))
    drawn = f"{len(ours)} different training and {len(theirs)} test tasks in {len(train)} draws"
    shared = len(ours & theirs)
    if not shared:
        return Finding("ok", f"{drawn}, none in both")
    if ours == theirs and len(ours) < FEW:
        return Finding(
            "warning",
            f"both splits hold the same {len(ours)} tasks",
            "fine if there are no other tasks; results on test tasks then say nothing of new ones",
        )
    expect(
        [*map(key_of, train)] != [*map(key_of, test)],
        "both splits are the same tasks: sample ignores `split`",
        'draw other tasks if split is "test" than if it is "train"',
    )
    return Finding("FAIL", f"{drawn}, {shared} in both", "leave the test tasks out of training")


def tasks_differ(subject: Subject) -> Finding:
    """Checks that the same seeds and actions, and then random episodes, differ between tasks."""
    tasks = subject.tasks
    remedy = "there is nothing to adapt to: widen a range"
    expect(len(tasks) > 1, f"all draws are {dict(tasks[0])}", remedy)
    steps = subject.steps_of(len(tasks) * subject.parallel)
    draws = subject.draws(len(tasks), alike=True)
    if _all_equal(subject.play_draws(subject.env, tasks, steps, draws)):
        found = f"the same seeds and actions give the same {steps} steps in all {len(tasks)} tasks"
        remedy = (
            "make sure that the task changes what the environment does; if random actions never "
            "get that far, reward progress"
        )
        return Finding("FAIL" if steps == subject.spec.horizon else "warning", found, remedy)
    returns = subject.returns
    p = separation(returns)
    medians = np.median(returns, axis=1)
    found = (
        f"Kruskal-Wallis p = {p:.2g} for returns of random actions, {returns.shape[0]} tasks x "
        f"{returns.shape[1]} episodes; medians from {medians.min():.4g} to {medians.max():.4g}"
    )
    if p < SIGNIFICANT:
        return Finding("ok", found)
    return Finding(
        "warning",
        found,
        "returns of random actions do not tell the tasks apart; look with --plot and more "
        "--episodes, or widen the ranges",
    )


def separation(returns: np.ndarray) -> float:
    """Returns the Kruskal-Wallis p-value of equal distributions of returns [K, E] in all tasks."""
    return 1.0 if (returns == returns.flat[0]).all() else float(kruskal(*returns).pvalue)


def _all_equal(found: Trajectories) -> bool:
    return all(bool((x == x[:1]).all()) for x in (found.obs, found.rewards, found.final_obs))


def task_hidden(subject: Subject) -> Finding:
    """Checks that a linear probe cannot read a task's parameters from its first observations."""
    together = len(subject.tasks)
    rounds = min(PROBED, len(subject.different) // together)
    tasks = subject.different[: rounds * together]
    if len(tasks) < 2 * FOLDS:
        return Finding("skipped", f"{len(tasks)} tasks are too few for a probe")
    parameters = _varied(tasks)
    if not parameters:
        return Finding("skipped", "no number differs between tasks")
    obs = []
    for index in range(rounds):
        subject.env.set_tasks(tasks[index * together : (index + 1) * together])
        obs.append(subject.env.reset(subject.draws(together, index).reset_seeds))
    features = np.concatenate(obs)  # [tasks, parallel, obs_dim]
    scores = {name: r_squared(features, values) for name, values in parameters.items()}
    best = max(scores, key=lambda name: scores[name])
    found = f"a linear probe of {len(tasks)} tasks' first observations finds "
    if scores[best] <= LEAKED:
        return Finding(
            "ok", f"{found}none of {len(scores)} parameters (R^2 at most {scores[best]:.2f})"
        )
    leaked = [f"{name} (R^2 {value:.2f})" for name, value in scores.items() if value > LEAKED]
    return Finding(
        "warning",
        f"{found}{', '.join(leaked)}",
        "if the agent is meant to find out the task, leave it out of the observation",
    )


def _varied(tasks: Sequence[Task]) -> dict[str, np.ndarray]:
    """Returns the numbers by name, [tasks] each, that all tasks have and that differ."""
    flat = [dict(_numbers(task)) for task in tasks]
    shared = [name for name in flat[0] if all(name in one for one in flat)]
    columns = {name: np.array([one[name] for one in flat]) for name in shared}
    return {name: values for name, values in columns.items() if np.ptp(values) > 0}


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _numbers(item, f"{name}[{index}]")
    elif isinstance(value, int | float):
        yield name, float(value)


def r_squared(features: np.ndarray, values: np.ndarray) -> float:
    """Returns the cross-validated R^2 of ridge regression of `values` [N] on `features`.

    Args:
        features: [N, E, width], E observations of each task; standardised, with a penalty of 1.
    """
    num, episodes, width = features.shape
    x = StandardScaler().fit_transform(features.reshape(-1, width).astype(np.float64))
    y, fold = np.repeat(values, episodes), np.repeat(np.arange(num) % FOLDS, episodes)
    return float(r2_score(y, cross_val_predict(Ridge(1.0), x, y, cv=PredefinedSplit(fold))))
