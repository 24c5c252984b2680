"""What a user can put right: said in at most three lines, without a traceback."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """The message names the value, the place and the way out; the doors print nothing else."""

    exit_code = 2


class WorkersFailedError(UserError):
    """Worker processes died or hung too often to go on."""

    exit_code = 3


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
