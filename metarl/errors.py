"""What a user can put right: said in at most three lines, without a traceback."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any


class UserError(ValueError):
    """The message names the value, the place and the way out; the doors print nothing else."""

    exit_code = 2


class WorkersFailedError(UserError):
    """Worker processes died or hung too often to go on."""

    exit_code = 3


class DivergedError(RuntimeError):
    """A simulation became unstable: its episode cannot be learned from.

    The meta-iteration that it belongs to is thrown away, counted and drawn anew.
    """

    def __init__(self, env: str, task: Mapping[str, Any], episode: int, step: int):
        self.env, self.task, self.episode, self.step = env, dict(task), episode, step
        super().__init__(
            f"{env}: the simulation of task {self.task}, episode {episode} diverged at step "
            f"{step}; smaller actions keep it stable"
        )


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
    ):
        """`step` counts from 1, and 0 is the reset or before. `field` is what was wrong:
        observation, reward, ..., or reset, step, constructor where that raised. `trace` is the
        environment's own traceback."""
        self.env, self.task, self.episode, self.step = env, dict(task), episode, step
        self.field, self.trace = field, trace
        super().__init__(f"{env}: {what}; task {self.task}, episode {episode}, step {step}")


class CorruptCheckpointError(UserError):
    """A checkpoint whose files are not those that were saved."""


class CheckpointWarning(UserWarning):
    """An earlier checkpoint than the newest is used."""


def nearest(word: str, known: Iterable[str], count: int = 3) -> str:
    """A "; did you mean ...?" to end a message with; the choices themselves if nothing is near.

    >>> nearest("point-gaol", ["point-goal", "ant-dir"])
    "; did you mean 'point-goal'?"
    """
    choices = list(known)
    near = get_close_matches(word, choices, n=count, cutoff=0.6)
    if near:
        return f"; did you mean {' or '.join(repr(name) for name in near)}?"
    return f"; there are {', '.join(choices)}"
