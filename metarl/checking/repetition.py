"""Checks that an episode is decided by its task, its seed and its actions, and by nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np

from metarl.checking.findings import Finding
from metarl.checking.play import HERE, Subject
from metarl.types import Task, Trajectories, Workers

ELSEWHERE = Workers(2, max_failures=0)
"""Other processes, on Meta-World one beside this one; threads where a simulator has its own."""


def same_seed(subject: Subject) -> Finding:
    """Episodes again from the same seeds and actions, here and by a worker."""
    tasks = subject.tasks[:2]
    first, again = _anew(subject, tasks, HERE), _anew(subject, tasks, HERE)
    parts = parting(first, again, tasks, "the second time")
    remedy = (
        "draw all chance from self.np_random, which super().reset(seed=seed) makes; "
        "where that cannot be, give deterministic=False"
    )
    if not parts:
        parts = parting(first, _anew(subject, tasks, ELSEWHERE), tasks, "in another process")
        remedy = (
            "use nothing that differs from process to process: hash(), the order of a set, id(), "
            "what a module counts"
        )
    if not parts:
        steps = int(first.mask.sum())
        return Finding("ok", f"{steps} steps come again bit by bit, here and by a worker")
    if not subject.spec.deterministic:
        return Finding("warning", parts, "deterministic=False says so: no run can be repeated")
    return Finding("FAIL", parts, remedy)


def no_memory(subject: Subject) -> Finding:
    """A task alone, and after other episodes in the same environments."""
    if not subject.spec.deterministic:
        return Finding("skipped", "where nothing comes again there is nothing to compare")
    task, other = [subject.different[0]], [subject.different[-1]]
    alone = _anew(subject, task, HERE)
    with closing(subject.distribution.open(1, subject.beside, HERE)) as env:
        # Where a task is an argument of the constructor, another one makes another environment:
        # only an episode of the same task is then played in the same one.
        for index, before in enumerate((other, task), 1):
            subject.play(env, before, _steps(subject, 1), index)
        after = subject.play(env, task, _steps(subject, 1))
    if parts := parting(alone, after, task, "after other episodes"):
        return Finding(
            "FAIL",
            parts,
            "let reset put back all that an episode changes, and each task set all that another "
            "one does",
        )
    steps = int(alone.mask.sum())
    return Finding("ok", f"{steps} steps come again bit by bit after episodes of another task")


def _anew(subject: Subject, tasks: Sequence[Task], workers: Workers) -> Trajectories:
    """Episodes in environments that have played none."""
    with closing(subject.distribution.open(len(tasks), subject.beside, workers)) as env:
        return subject.play(env, tasks, _steps(subject, len(tasks)))


def _steps(subject: Subject, num_tasks: int) -> int:
    return subject.steps_of(num_tasks * subject.beside, 0.1)


def parting(one: Trajectories, other: Trajectories, tasks: Sequence[Task], when: str) -> str:
    """Where two plays of the same episodes first differ by a bit; empty if nowhere."""
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
        a, b = (_timed(getattr(x, field).numpy(), field)[:, :last] for x in (one, other))
        places = np.argwhere(_bits(a) != _bits(b))
        if len(places):
            k, t, e, *index = place = places[places[:, 1].argmin()].tolist()
            at = f"[{index[0]}]" if index and a.shape[-1] > 1 else ""
            what = f"{name}{at} is {b[tuple(place)]} {when}, {a[tuple(place)]} the first"
            found.append(
                (t + after, f"task {dict(tasks[k])}, episode {e}, step {t + after}: {what}")
            )
    return min(found, default=(0, ""))[1]


def _timed(values: np.ndarray, field: str) -> np.ndarray:
    """[K, T, E, ...], T = 1 for what an episode has once."""
    return values[:, None] if field in ("final_obs", "solved_at") else values


def _bits(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint32) if values.dtype == np.float32 else values
