"""Errors that a user can fix, with messages of at most three lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any


class UserError(ValueError):
    """Error whose message names the value, the place and the remedy; printed without traceback."""

    exit_code = 2


class WorkersFailedError(UserError):
    """Worker processes died or hung too often."""

    exit_code = 3


class DivergedError(RuntimeError):
    """A simulation became unstable, so that its episode is useless for learning.

    Training discards the meta-iteration, counts it and draws a new one.
    """

    def __init__(
        self, env: str, task: Mapping[str, Any], episode: int, step: int, index: int | None = None
    ):
        """`index` is that of the task among those that are played together, if known."""
        self.env, self.task, self.episode, self.step = env, dict(task), episode, step
        self.index = index
        super().__init__(
            f"{env}: the simulation of task {self.task}, episode {episode} diverged at step "
            f"{step}; smaller actions keep it stable"
        )


class UnstableError(UserError):
    """A learner left the finite numbers, or drove a simulation out of them."""


class EnvFaultError(UserError):
    """An environment broke the rules of gymnasium, or raised an exception of its own."""

    def __init__(
        self,
        env: str,
        task: Mapping[str, Any],
        episode: int,
        step: int,
        field: str,
        what: str,
        trace: str = "",
        index: int | None = None,
    ):
        """Names the place and the fault. `step` counts from 1; 0 is the reset or before. `field` is
        the wrong value (observation, reward, ...) or the call that raised (reset, step,
        constructor). `trace` is the environment's own traceback, `index` as for a divergence."""
        self.env, self.task, self.episode, self.step = env, dict(task), episode, step
        self.field, self.what, self.trace, self.index = field, what, trace, index
        of = f"task {self.task}, " if self.task else ""
        super().__init__(f"{env}: {what}; {of}episode {episode}, step {step}")


class CorruptCheckpointError(UserError):
    """A checkpoint's file is missing or differs from the saved one."""


class CheckpointWarning(UserWarning):
    """The newest checkpoint is corrupt, so an earlier one is used."""


class TaskWarning(UserWarning):
    """Tasks of a user's own may all be the same."""


def nearest(word: str, known: Iterable[str], count: int = 3) -> str:
    """Returns "; did you mean ...?" to end a message with, or the choices if none is near.

    >>> nearest("point-gaol", ["point-goal", "ant-dir"])
    "; did you mean 'point-goal'?"
    """
    choices = list(known)
    near = get_close_matches(word, choices, n=count, cutoff=0.6)
    if not near and len(word) > 2:  # a part of a name, such as `cheetah`
        near = [name for name in choices if word in name][:count]
    if near:
        return f"; did you mean {' or '.join(repr(name) for name in near)}?"
    return f"; there are {several(choices)}"


def several(names: Iterable[str], most: int = 13) -> str:
    """Returns the names with commas between; of more than `most`, the first five."""
    listed = list(names)
    if len(listed) <= most:
        return ", ".join(listed)
    return f"{', '.join(listed[:5])}, ... ({len(listed)} in all)"
