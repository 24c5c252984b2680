"""Runs all checks of a task distribution in order."""

from __future__ import annotations

from collections.abc import Callable

from metarl.checking import episodes, interface, repetition, tasks
from metarl.checking.contract import contract
from metarl.checking.findings import Check, Finding, run
from metarl.checking.play import Subject
from metarl.envs.gym.tasks import GymTasks


def check(subject: Subject, tell: Callable[[str], object]) -> dict[str, Finding]:
    """Runs all checks and calls `tell` with each line as soon as it is known."""
    played = ("faults",)
    opened: tuple[str, ...] = ("opens",)
    if isinstance(subject.distribution, GymTasks):
        rules = Check("gymnasium", interface.gymnasium_rules, opened)
    else:
        rules = Check("contract", contract, opened)
        opened = ("contract",)  # episodes can't be collected from arrays of other shapes or types
    return run(
        [
            Check("opens", interface.opens),
            rules,
            Check("faults", episodes.faults, opened),
            Check("same seed", repetition.same_seed, played),
            Check("no memory", repetition.no_memory, ("same seed",)),
            Check("splits", tasks.splits, ("opens",)),
            Check("tasks differ", tasks.tasks_differ, played),
            Check("task hidden", tasks.task_hidden, played),
            Check("units", episodes.units, played),
            Check("actions", episodes.actions, played),
            Check("speed", episodes.speed, played),
            Check("endings", episodes.endings, played),
        ],
        subject,
        tell,
    )
