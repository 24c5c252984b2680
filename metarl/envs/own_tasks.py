"""Loader of a user's own task distribution, named by `package.module:attribute`.

Loading runs the user's code. Only `catalogue.make`, `catalogue.default_horizon` and, for supervised
tasks, `supervised.families.own` load, for a name that the user gave on the command line.
"""

from __future__ import annotations

import functools
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
    if _has(found, DISTRIBUTION):
        return cast(TaskDistribution, found)
    if _has(found, SUPERVISED):
        raise UserError(
            f"{name} are supervised tasks; begin with a preset of theirs, as in "
            f"`python -m metarl.train digits-maml --env {name}`"
        )
    if all(hasattr(found, member) for member in OWN_CLASS):
        return class_tasks(found, name)
    if isinstance(found, gymnasium.Env):
        raise UserError(
            f"{name} is one environment; metarl.gym_tasks(...) makes a distribution of tasks of it"
        )
    raise UserError(
        f"{name} is no task distribution but {type(found).__name__}; it has neither "
        f"{', '.join(OWN_CLASS)} and horizon, nor {', '.join(DISTRIBUTION)}"
    )


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
    if not callable(found) or hasattr(type(found), "sample"):
        return found
    return own_code.run(f"{name}()", found)


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
