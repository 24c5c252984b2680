"""Environments as rows of arrays: what a worker plays, in its own process or in this one.

N = K x E environments are rows of a few arrays, in an order that gives each worker neighbouring
rows. This module imports neither torch nor gymnasium: worker processes start with it.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np

from metarl.types import EnvSpec

BUSY = 2
"""The place in a worker's pulse where shares that are played together count the nanoseconds of
their steps since they were given their tasks."""
DIVERGED = "simulation"
"""The field of a RowError that says that a simulation became unstable, by nobody's fault."""


class RowError(Exception):
    """What a RowEnv did wrong; where it happened is added by who knows."""

    def __init__(self, field: str, what: str, trace: str = "", row: int = 0, step: int = 0):
        super().__init__(field, what, trace, row, step)
        self.field, self.what, self.trace, self.row, self.step = field, what, trace, row, step


@contextmanager
def faults_of(field: str) -> Iterator[None]:
    """An exception in a user's code becomes a RowError with its traceback."""
    try:
        yield
    except (RowError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too: an environment is not to stop a worker
        raise raised(field, error) from error


def raised(field: str, error: BaseException) -> RowError:
    """An exception as a RowError: its first line, and the traceback."""
    lines = str(error).splitlines()
    said = f": {lines[0]:.200}" if lines else ""
    trace = "".join(traceback.format_exception(error))
    return RowError(field, f"{field} raised {type(error).__name__}{said}", trace)


class Plan(NamedTuple):
    """Which rows play which task and episode."""

    spec: EnvSpec
    num_tasks: int
    episodes: tuple[slice, ...]
    """Of every task, part by part."""
    terms: tuple[str, ...] = ()
    """Names of further numbers that a step leaves, for who asks (`Pool.info`)."""

    @staticmethod
    def whole(spec: EnvSpec, num_tasks: int, episodes: int, terms: tuple[str, ...] = ()) -> Plan:
        """One part."""
        return Plan(spec, num_tasks, (slice(0, episodes),), terms)

    @staticmethod
    def halved(spec: EnvSpec, num_tasks: int, episodes: int, terms: tuple[str, ...] = ()) -> Plan:
        """Two parts, if every task has two episodes."""
        half = -(-episodes // 2)
        parts = [slice(0, half), slice(half, episodes)]
        used = tuple(part for part in parts if part.start < episodes)
        return Plan(spec, num_tasks, used, terms)

    @property
    def size(self) -> int:
        return self.num_tasks * self.episodes[-1].stop

    @property
    def parts(self) -> tuple[slice, ...]:
        """The rows of each part, task after task."""
        return tuple(
            slice(self.num_tasks * part.start, self.num_tasks * part.stop) for part in self.episodes
        )

    def tasks_of_rows(self) -> list[int]:
        """The task that each row plays."""
        return [self.place(row)[0] for row in range(self.size)]

    def place(self, row: int) -> tuple[int, int]:
        """The task and the episode that a row plays."""
        part = next(part for part in self.episodes if row < self.num_tasks * part.stop)
        k, e = divmod(row - self.num_tasks * part.start, part.stop - part.start)
        return k, e + part.start


class Rows(NamedTuple):
    """The arrays of N environments; `obs` and what follows it are theirs to write."""

    seeds: np.ndarray  # [N] uint64
    actions: np.ndarray  # [N, act_dim]
    obs: np.ndarray  # [N, obs_dim] float32
    rewards: np.ndarray  # [N] float32
    terminated: np.ndarray  # [N] bool
    truncated: np.ndarray  # [N] bool
    success: np.ndarray  # [N] bool
    terms: np.ndarray  # [N, terms of the plan] float64
    pulse: np.ndarray  # [workers, 8] int64: moves with each row that a worker does; its step

    @staticmethod
    def bytes_for(plan: Plan, workers: int) -> int:
        return sum(_padded(_bytes(shape, dtype)) for shape, dtype in _layout(plan, workers))

    @staticmethod
    def in_memory(plan: Plan, workers: int, buffer: Any) -> Rows:
        """The arrays in a buffer of `bytes_for` bytes, zero at first."""
        arrays, at = [], 0
        for shape, dtype in _layout(plan, workers):
            count = int(np.prod(shape))
            arrays.append(np.frombuffer(buffer, dtype, count, at).reshape(shape))
            at += _padded(_bytes(shape, dtype))
        return Rows(*arrays)


def _layout(plan: Plan, workers: int) -> list[tuple[tuple[int, ...], Any]]:
    spec, size = plan.spec, plan.size
    discrete = np.issubdtype(spec.action_space.dtype, np.integer)
    flags: list[tuple[tuple[int, ...], Any]] = [((size,), np.bool_)] * 3
    return [
        ((size,), np.uint64),
        ((size, spec.act_dim), np.int64 if discrete else np.float32),
        ((size, spec.obs_dim), np.float32),
        ((size,), np.float32),
        *flags,
        ((size, len(plan.terms)), np.float64),
        ((workers, 8), np.int64),
    ]


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _padded(size: int) -> int:
    """Arrays begin at whole cache lines, and so does each worker's pulse, the busiest of them."""
    return -(-size // 64) * 64


class Share:
    """The rows of one worker, some of each part. How they are played is its kinds' business."""

    def __init__(self, rows: Rows, parts: Sequence[slice], worker: int):
        self.rows, self.parts = rows, parts
        self._pulse, self._beats = memoryview(rows.pulse[worker]), 0

    def set_tasks(self, tasks: Mapping[int, Any]) -> None:
        """Row -> what it plays from its next reset on."""
        raise NotImplementedError

    def reset(self, part: int) -> None:
        """Starts an episode in each row of a part."""
        raise NotImplementedError

    def step(self, part: int) -> None:
        """A step of each row of a part whose episode goes on; the others keep what they had."""
        raise NotImplementedError

    def close(self) -> None: ...

    def replay(self, part: int, history: Sequence[np.ndarray]) -> None:
        """A part's episodes from their seeds and actions, [rows of the part, act_dim] a step."""
        self.reset(part)
        for actions in history:
            self.rows.actions[self.parts[part]] = actions
            self.step(part)

    def _clear(self, where: slice) -> None:
        """No reward, no end and no success yet."""
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
        """Says where this worker is, while it is there and when something fails."""
        self._pulse[0], self._pulse[1] = self._next_beat() + row, step
        try:
            yield
        except Exception as error:
            raise placed(error, "environment", row, step) from None

    def _next_beat(self) -> int:
        """Whatever row is done next, the pulse is another than before; modulo N it is the row."""
        self._beats += 1
        return self._beats * len(self.rows.seeds)


class ShareFactory(Protocol):
    """What plays an environment's rows; it travels to the worker processes."""

    def share(self, rows: Rows, parts: Sequence[slice], worker: int) -> Share: ...


def placed(error: Exception, field: str, row: int, step: int) -> RowError:
    """An error with the place where it happened."""
    known = error if isinstance(error, RowError) else raised(field, error)
    return RowError(known.field, known.what, known.trace, row, step)
