"""Checks that task, seed and actions decide an episode, and nothing else does."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np

from metarl.checking.findings import Finding, expect
from metarl.checking.play import HERE, Subject
from metarl.types import Task, Trajectories, Workers

ELSEWHERE = Workers(2, max_failures=0)
"""Two workers; for Meta-World this process and another, for MuJoCo two threads."""


def same_seed(subject: Subject) -> Finding:
    """Checks that the same seeds and actions repeat an episode, here and on a worker."""
    tasks = subject.tasks[:2]
    first, again = _play_new(subject, tasks, HERE), _play_new(subject, tasks, HERE)
    difference = first_difference(first, again, tasks, "the second time")
    remedy = (
        "draw all random numbers from self.np_random, which super().reset(seed=seed) makes; "
        "if that is impossible, give deterministic=False"
    )
    if not difference:
        difference = first_difference(
            first, _play_new(subject, tasks, ELSEWHERE), tasks, "in another process"
        )
        remedy = (
            "use nothing that differs between processes: hash(), the order of a set, id(), "
            "counters in a module"
        )
    if not difference:
        steps = int(first.mask.sum())
        return Finding("ok", f"{steps} steps repeat bit for bit, here and on a worker")
    if not subject.spec.deterministic:
        return Finding(
            "warning", difference, "deterministic=False allows this: no run can be repeated"
        )
    return Finding("FAIL", difference, remedy)


def no_memory(subject: Subject) -> Finding:
    """Checks that a task plays the same alone and after other episodes in its environments."""
    if not subject.spec.deterministic:
        return Finding("skipped", "deterministic=False: episodes do not repeat")
    task, other = [subject.different[0]], [subject.different[-1]]
    alone = _play_new(subject, task, HERE)
    with closing(subject.distribution.open(1, subject.parallel, HERE)) as env:
        # If a task is an argument of the constructor, another task makes a new environment, so only
        # an episode of the same task is played in the same environment.
        for index, before in enumerate((other, task), 1):
            subject.play(env, before, _steps(subject, 1), index)
        after = subject.play(env, task, _steps(subject, 1))
    difference = first_difference(alone, after, task, "after other episodes")
    remedy = (
        "let reset restore everything that an episode changes, and let each task set everything "
        "that other tasks set"
    )
    expect(not difference, difference, remedy)
    steps = int(alone.mask.sum())
    return Finding("ok", f"{steps} steps repeat bit for bit after episodes of another task")


def _play_new(subject: Subject, tasks: Sequence[Task], workers: Workers) -> Trajectories:
    """Plays episodes in new environments."""
    with closing(subject.distribution.open(len(tasks), subject.parallel, workers)) as env:
        return subject.play(env, tasks, _steps(subject, len(tasks)))


def _steps(subject: Subject, num_tasks: int) -> int:
    return subject.steps_of(num_tasks * subject.parallel, 0.1)


def first_difference(
    one: Trajectories, other: Trajectories, tasks: Sequence[Task], when: str
) -> str:
    """Describes the first difference between two plays of the same episodes; empty if none."""
    last = min(one.mask.shape[1], other.mask.shape[1])
    found = []
    for field, name, after in (
        ("obs", "observation", 0),
        ("rewards", "reward", 1),
        ("terminated", "terminated", 1),
        ("truncated", "truncated", 1),
        ("final_obs", "observation", last),
        ("solved_at", "the first step solved", last),
    ):
        a, b = (_with_time(getattr(x, field).numpy(), field)[:, :last] for x in (one, other))
        places = np.argwhere(_bits(a) != _bits(b))
        if len(places):
            k, t, e, *index = place = places[places[:, 1].argmin()].tolist()
            at = f"[{index[0]}]" if index and a.shape[-1] > 1 else ""
            what = f"{name}{at} is {b[tuple(place)]} {when}, {a[tuple(place)]} the first"
            found.append(
                (t + after, f"task {dict(tasks[k])}, episode {e}, step {t + after}: {what}")
            )
    return min(found, default=(0, ""))[1]


def _with_time(values: np.ndarray, field: str) -> np.ndarray:
    """Returns the values as [K, T, E, ...], with T = 1 for fields without a time axis."""
    return values[:, None] if field in ("final_obs", "solved_at") else values


def _bits(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint32) if values.dtype == np.float32 else values
