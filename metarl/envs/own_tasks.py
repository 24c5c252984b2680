"""A user's own task distribution: loaded by its name `package.module:attribute`, or given as an
object in Python.

Loading runs the user's code. Only `catalogue.make`, `catalogue.default_horizon` and, for supervised
tasks, `supervised.families.own` load, for a name that the user gave on the command line.
"""

from __future__ import annotations

import functools
import re
import sys
from typing import Any, cast

import gymnasium

from metarl.config import own_code
from metarl.envs.gym.tasks import class_tasks
from metarl.errors import UserError
from metarl.types import FewShotTasks, TaskDistribution

DISTRIBUTION = ("spec", "sample", "open", "describe")
OWN_CLASS = ("sample", "make")
SUPERVISED = ("spec", "sample", "draw", "describe")


@functools.cache
def load(name: str) -> TaskDistribution:
    """Returns the distribution at `module:attribute`: an object, or a class or function's result.

    Raises:
        UserError: if nothing is there, or no task distribution.
    """
    found = _made(name)
    if not _has(found, DISTRIBUTION) and _has(found, SUPERVISED):
        raise UserError(
            f"{name} are supervised tasks; begin with a preset of theirs, as in "
            f"`metarl train digits-maml --env {name}`"
        )
    return distribution(found, name)


def distribution(found: Any, name: str) -> TaskDistribution:
    """Returns an object of a user's as a distribution; `name` is that of its code.

    Raises:
        UserError: if it is none.
    """
    if _has(found, DISTRIBUTION):
        return cast(TaskDistribution, found)
    if all(hasattr(found, member) for member in OWN_CLASS):
        return class_tasks(found, name)
    if own_code.is_given(name):  # by an object, whose name is no place that a reader knows
        name = "tasks"
    if isinstance(found, gymnasium.Env):
        raise UserError(
            f"{name} is one environment; metarl.gym_tasks(...) makes a distribution of tasks of it"
        )
    raise UserError(
        f"{name} is no task distribution but {type(found).__name__}; it has neither "
        f"{', '.join(OWN_CLASS)} and horizon, nor {', '.join(DISTRIBUTION)}"
    )


def given(tasks: Any) -> tuple[str, TaskDistribution | FewShotTasks]:
    """Returns tasks that Python code gave, with a name for a run's config.

    Args:
        tasks: a distribution, an object with `sample` and `make`, supervised tasks, or a class or
            function that makes one of these.

    Raises:
        UserError: for anything else.
    """
    name = place_of(tasks)
    made = tasks if _is_made(tasks) else own_code.run(f"{name}()", tasks)
    if not _has(made, DISTRIBUTION) and _has(made, SUPERVISED):
        return name, cast(FewShotTasks, made)
    return name, distribution(made, name)


def place_of(tasks: Any) -> str:
    """Returns `module:attribute` of an object: where a module has it, else by its class's name.

    The same script names the same tasks alike each time, so that a run continues.
    """
    main = "__main__", "__mp_main__"
    for module_name, module in sorted(sys.modules.items(), key=lambda x: (x[0] in main, x[0])):
        if module_name.partition(".")[0] == "metarl":
            continue
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is tasks and own_code.is_place(f"{module_name}:{attribute}"):
                return f"{module_name}:{attribute}"
    own = getattr(tasks, "name", None) or getattr(getattr(tasks, "spec", None), "name", None)
    label = own if isinstance(own, str) else getattr(tasks, "__name__", type(tasks).__name__)
    return f"{own_code.GIVEN}:_{re.sub(r'[^A-Za-z0-9_]', '_', label)}".replace(":__", ":_")


@functools.cache
def load_supervised(name: str) -> FewShotTasks:
    """Returns the supervised tasks at `module:attribute`, or the result of a callable there.

    Raises:
        UserError: if nothing is there, or no supervised tasks.
    """
    found = _made(name)
    if _has(found, SUPERVISED):
        return cast(FewShotTasks, found)
    raise UserError(
        f"{name} are no supervised tasks but {type(found).__name__}: they have "
        f"{', '.join(SUPERVISED)}; metarl.episodes_from_arrays(...) makes some of labelled arrays"
    )


def _made(name: str) -> Any:
    """Returns the object of that name, or the result of calling it."""
    found: Any = own_code.at(name)
    return found if _is_made(found) else own_code.run(f"{name}()", found)


def _is_made(found: Any) -> bool:
    """Returns whether an object is none to be called for tasks."""
    return not callable(found) or hasattr(type(found), "sample")


def _has(found: Any, members: tuple[str, ...]) -> bool:
    return all(hasattr(type(found), member) or hasattr(found, member) for member in members)


def with_horizon(distribution: Any, horizon: int, name: str) -> TaskDistribution:
    """Returns the distribution with episodes of `horizon` steps.

    Raises:
        UserError: if it has another horizon and cannot change it.
    """
    if hasattr(distribution, "with_horizon"):
        distribution = distribution.with_horizon(horizon)
    if (getattr(distribution, "horizon", None) or distribution.spec.horizon) != horizon:
        raise UserError(
            f"{name} has episodes of {distribution.spec.horizon} steps, not {horizon}; "
            "leave out --env.horizon, or give it a method with_horizon(steps)"
        )
    return distribution
