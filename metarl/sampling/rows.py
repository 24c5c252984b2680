"""Environments as rows of arrays, which this process or a worker process plays.

N = K x E environments are the rows of a few arrays. Each worker plays neighbouring rows. This
module imports neither torch nor gymnasium, so that worker processes start fast.
"""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import numpy as np

from metarl.types import EnvSpec, Task

BUSY = 2
"""Index in a worker's pulse of the nanoseconds that its steps took since its tasks were set; only
shares that step as arrays write it."""
DIVERGED = "simulation"
"""`field` of a RowError for a simulation that became unstable, which is no fault of the code."""
USER = "user"
"""`field` of a RowError for an error that already is a user's, with its whole message."""
ROUND = 3
"""Index in a worker's pulse of the nanoseconds that its last round took."""


class RowError(Exception):
    """A fault of an environment; `row` and `step` may be filled in later (see `placed`)."""

    def __init__(self, field: str, what: str, trace: str = "", row: int = 0, step: int = 0):
        super().__init__(field, what, trace, row, step)
        self.field, self.what, self.trace, self.row, self.step = field, what, trace, row, step


@contextmanager
def faults_of(field: str) -> Iterator[None]:
    """Turns an exception in a user's code into a RowError with its traceback."""
    try:
        yield
    except (RowError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too: an environment must not stop a worker
        raise raised(field, error) from error


def raised(field: str, error: BaseException) -> RowError:
    """Returns an exception as a RowError with its first line and its traceback."""
    lines = str(error).splitlines()
    message = f": {lines[0]:.200}" if lines else ""
    trace = "".join(traceback.format_exception(error))
    return RowError(field, f"{field} raised {type(error).__name__}{message}", trace)


def bad_action(
    env: str, actions: np.ndarray, tasks: Sequence[Task], step: int, first: int = 0
) -> FloatingPointError:
    """Returns the error, a fault of the policy, for actions [K, e, act_dim] that are not all
    finite; `first` is the index of their first episode."""
    k, e = np.argwhere(~np.isfinite(actions).all(axis=-1))[0].tolist()
    return FloatingPointError(
        f"{env}: action {actions[k, e]} of the policy, task {dict(tasks[k])}, episode {e + first}, "
        f"step {step}"
    )


class Plan(NamedTuple):
    """Assignment of tasks and episodes to rows."""

    spec: EnvSpec
    num_tasks: int
    episodes: tuple[slice, ...]
    """Episodes of every task that each part holds."""
    terms: tuple[str, ...]
    """Names of the extra numbers that a step reports (`Pool.info`)."""

    @staticmethod
    def divided(
        spec: EnvSpec, num_tasks: int, episodes: int, parts: int, terms: tuple[str, ...] = ()
    ) -> Plan:
        """Returns a plan with so many parts, or fewer if tasks have fewer episodes."""
        size = -(-episodes // parts)
        starts = range(0, episodes, size)
        used = tuple(slice(start, min(start + size, episodes)) for start in starts)
        return Plan(spec, num_tasks, used, terms)

    @property
    def size(self) -> int:
        return self.num_tasks * self.episodes[-1].stop

    @property
    def parts(self) -> tuple[slice, ...]:
        """Rows of each part, ordered by task."""
        return tuple(
            slice(self.num_tasks * part.start, self.num_tasks * part.stop) for part in self.episodes
        )

    def place(self, row: int) -> tuple[int, int]:
        """Returns the indices of a row's task and episode."""
        part = next(part for part in self.episodes if row < self.num_tasks * part.stop)
        k, e = divmod(row - self.num_tasks * part.start, part.stop - part.start)
        return k, e + part.start


class Rows(NamedTuple):
    """Arrays of N environments; players read seeds and actions and write the others."""

    seeds: np.ndarray  # [N] uint64
    actions: np.ndarray  # [N, act_dim]
    obs: np.ndarray  # [N, obs_dim] float32
    rewards: np.ndarray  # [N] float32
    terminated: np.ndarray  # [N] bool
    truncated: np.ndarray  # [N] bool
    success: np.ndarray  # [N] bool
    terms: np.ndarray  # [N, terms of the plan] float64
    pulse: np.ndarray  # [workers, 8] int64: changes with each row that a worker steps; the step

    @staticmethod
    def bytes_for(plan: Plan, workers: int) -> int:
        return _layout(plan, workers).itemsize

    @staticmethod
    def in_memory(plan: Plan, workers: int, buffer: Any) -> Rows:
        """Returns the arrays as views of a zeroed buffer of `bytes_for` bytes."""
        whole = np.frombuffer(buffer, _layout(plan, workers), 1)
        return Rows(*(whole[name][0] for name in Rows._fields))


def _layout(plan: Plan, workers: int) -> np.dtype:
    """Returns the arrays as the fields of one record. Each takes whole cache lines of 64 bytes, so
    that no two share a line."""
    spec, size = plan.spec, plan.size
    discrete = np.issubdtype(spec.action_space.dtype, np.integer)
    fields: list[tuple[type, tuple[int, ...]]] = [
        (np.uint64, (size,)),
        (np.int64 if discrete else np.float32, (size, spec.act_dim)),
        (np.float32, (size, spec.obs_dim)),
        (np.float32, (size,)),
        *[(np.bool_, (size,))] * 3,
        (np.float64, (size, len(plan.terms))),
        (np.int64, (workers, 8)),
    ]
    formats = [np.dtype(each) for each in fields]
    *offsets, end = accumulate((-(-x.itemsize // 64) * 64 for x in formats), initial=0)
    return np.dtype(
        {"names": Rows._fields, "formats": formats, "offsets": offsets, "itemsize": end}
    )


class Share(ABC):
    """Rows of one worker, some of each part; subclasses define how they are played."""

    def __init__(self, rows: Rows, parts: Sequence[slice], worker: int):
        self.rows, self.parts = rows, parts
        self._pulse, self._beats = memoryview(rows.pulse[worker]), 0

    @abstractmethod
    def set_tasks(self, tasks: Mapping[int, Any]) -> None:
        """Sets rows' tasks, row -> payload, from their next reset on."""

    @abstractmethod
    def reset(self, part: int) -> None:
        """Starts an episode in each row of a part."""

    @abstractmethod
    def step(self, part: int) -> None:
        """Steps each row of a part whose episode has not ended; other rows keep their values."""

    def close(self) -> None:  # noqa: B027  # few have anything to close
        """Frees what the rows hold."""

    def replay(self, part: int, history: Sequence[np.ndarray]) -> None:
        """Replays a part from its seeds and each step's actions, [rows of the part, act_dim]."""
        self.reset(part)
        for actions in history:
            self.rows.actions[self.parts[part]] = actions
            self.step(part)

    def _clear(self, where: slice) -> None:
        """Sets rewards, endings and success to zero."""
        rows = self.rows
        for array in (rows.rewards, rows.terminated, rows.truncated, rows.success):
            array[where] = 0

    def _check_finite(self, where: slice, step: int) -> None:
        for field, values in (("observation", self.rows.obs), ("reward", self.rows.rewards)):
            if np.isfinite(values[where]).all():
                continue
            wrong = ~np.isfinite(values[where]).reshape(where.stop - where.start, -1)
            first = int(wrong.any(axis=1).argmax())
            row, place = where.start + first, int(wrong[first].argmax())
            value = values[row].reshape(-1)[place]
            spot = f" at index {place} of {wrong.shape[1]}" if wrong.shape[1] > 1 else ""
            raise RowError(field, f"the {field} is {value}{spot}", "", row, step)

    @contextmanager
    def _at(self, row: int, step: int) -> Iterator[None]:
        """Shows the row and the step in the pulse, and adds them to an error."""
        self._pulse[0], self._pulse[1] = self._next_beat() + row, step
        try:
            yield
        except Exception as error:
            raise placed(error, "environment", row, step) from error.__cause__

    def _next_beat(self) -> int:
        """Returns a multiple of N: pulse = beat + row always changes and gives the row modulo N."""
        self._beats += 1
        return self._beats * len(self.rows.seeds)


class ShareFactory(Protocol):
    """Makes the shares of an environment; it is pickled to the worker processes."""

    def share(self, rows: Rows, parts: Sequence[slice], worker: int) -> Share: ...


class Shares(NamedTuple):
    """Shares that a distribution plays its environments in, other than BatchedEnvs."""

    factory: ShareFactory
    payload_of: Callable[[Task], Any] | None = None
    """Task -> what is sent to its player; None: the task itself."""
    terms: tuple[str, ...] = ()
    """Names of the numbers that shares write to `Rows.terms`."""
    divisible: bool = False
    """Whether a share's rows may be others in each meta-batch."""


def placed(error: BaseException, field: str, row: int, step: int) -> RowError:
    """Returns the error with the row and the step where it happened."""
    known = error if isinstance(error, RowError) else raised(field, error)
    return RowError(known.field, known.what, known.trace, row, step)
