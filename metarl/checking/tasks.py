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
    played = subject.play_draws(subject.env, tasks, steps, draws)
    if len(_kinds(played)) == 1:
        found = f"the same seeds and actions give the same {steps} steps in all {len(tasks)} tasks"
        if subject.spec.sparse:
            return Finding("ok", f"{found}, which are sparse by their spec")
        remedy = (
            "make sure that the task changes what the environment does; if random actions never "
            "get that far, reward progress"
        )
        return Finding("FAIL" if steps == subject.spec.horizon else "warning", found, remedy)
    returns = subject.returns
    medians = np.median(returns, axis=1)
    return Finding(
        "ok",
        f"{len(_kinds(played))} of {len(tasks)} tasks play differently with equal seeds and "
        f"actions; returns of random actions have medians from {medians.min():.4g} to "
        f"{medians.max():.4g} (Kruskal-Wallis p = {separation(returns):.2g})",
    )


def separation(returns: np.ndarray) -> float:
    """Returns the Kruskal-Wallis p-value of equal distributions of returns [K, E] in all tasks."""
    return 1.0 if (returns == returns.flat[0]).all() else float(kruskal(*returns).pvalue)


def _kinds(played: Trajectories) -> set[bytes]:
    """Returns what the tasks showed, as bytes: one for each different task."""
    shown = (played.obs, played.rewards, played.final_obs)
    return {
        b"".join(x[k].contiguous().numpy().tobytes() for x in shown) for k in range(len(played.obs))
    }


def task_hidden(subject: Subject) -> Finding:
    """Checks that first observations are equal in all tasks under one seed, and unless they are,
    whether a linear probe reads the task's parameters from them."""
    together = len(subject.tasks)
    alike = subject.draws(together, alike=True)
    subject.env.set_tasks(subject.tasks)
    begun = {x.tobytes() for x in subject.env.reset(alike.reset_seeds)}
    if len(begun) == 1:
        return Finding("ok", f"{together} tasks begin with the same observation under one seed")
    found = f"under one seed {together} tasks begin with {len(begun)} different observations; "
    rounds = min(PROBED, len(subject.different) // together)
    tasks = subject.different[: rounds * together]
    parameters = _varied(tasks)
    remedy = "if the agent is meant to find out the task, leave it out of the observation"
    if len(tasks) < 2 * FOLDS or not parameters:
        return Finding("warning", f"{found}too few for a linear probe of what they tell", remedy)
    obs = []
    for index in range(rounds):
        subject.env.set_tasks(tasks[index * together : (index + 1) * together])
        obs.append(subject.env.reset(subject.draws(together, index).reset_seeds))
    features = np.concatenate(obs)  # [tasks, parallel, obs_dim]
    scores = {name: r_squared(features, values) for name, values in parameters.items()}
    best = max(scores, key=lambda name: scores[name])
    found += f"a linear probe of {len(tasks)} tasks finds "
    if scores[best] <= LEAKED:
        none = f"none of {len(scores)} parameters in them (R^2 at most {scores[best]:.2f})"
        return Finding("warning" if subject.spec.deterministic else "ok", found + none, remedy)
    leaked = [f"{name} (R^2 {value:.2f})" for name, value in scores.items() if value > LEAKED]
    return Finding("warning", f"{found}{', '.join(leaked)}", remedy)


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
