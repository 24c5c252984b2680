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

from metarl.types import EnvSpec, Task

Outcome = tuple[np.ndarray, float, bool, bool, bool]
"""What a step of one environment gives: obs [obs_dim], reward, terminated, truncated, success."""


class RowEnv(Protocol):
    """One environment, by turns in different tasks."""

    def set_task(self, task: Task) -> None: ...
    def reset(self, seed: int) -> np.ndarray: ...
    def step(self, action: Any) -> Outcome: ...
    def close(self) -> None: ...


class RowFactory(Protocol):
    """Makes the rows; it travels to the worker processes."""

    def make(self) -> RowEnv: ...

    def decode(self, actions: np.ndarray) -> Sequence[Any] | np.ndarray:
        """Actions [n, act_dim] of n rows as their environments take them."""
        ...


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

    @staticmethod
    def halved(spec: EnvSpec, num_tasks: int, episodes: int) -> Plan:
        """Two parts, if every task has two episodes."""
        half = -(-episodes // 2)
        parts = [slice(0, half), slice(half, episodes)]
        return Plan(spec, num_tasks, tuple(part for part in parts if part.start < episodes))

    @property
    def size(self) -> int:
        return self.num_tasks * self.episodes[-1].stop

    @property
    def parts(self) -> tuple[slice, ...]:
        """The rows of each part, task after task."""
        return tuple(
            slice(self.num_tasks * part.start, self.num_tasks * part.stop) for part in self.episodes
        )

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
        ((workers, 8), np.int64),
    ]


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _padded(size: int) -> int:
    """Arrays begin at whole cache lines, and so does each worker's pulse, the busiest of them."""
    return -(-size // 64) * 64


class Share:
    """The rows of one worker: some of each part."""

    def __init__(self, factory: RowFactory, rows: Rows, parts: Sequence[slice], worker: int):
        self.factory, self.rows, self.parts = factory, rows, parts
        self._envs: dict[int, RowEnv] = {}
        self._going: list[list[int]] = [[] for _ in parts]
        """Rows of each part whose episodes have not ended."""
        self._steps = [0] * len(parts)
        self._pulse, self._beats = memoryview(rows.pulse[worker]), 0

    def set_tasks(self, tasks: Mapping[int, Task]) -> None:
        """Row -> the task that it plays from its next reset on."""
        for row, task in tasks.items():
            with self._at(row, 0):
                if row not in self._envs:
                    with faults_of("constructor"):
                        self._envs[row] = self.factory.make()
                self._envs[row].set_task(task)

    def reset(self, part: int) -> None:
        """Starts an episode in each row of a part."""
        rows, where = self.rows, self.parts[part]
        self._steps[part] = 0
        for array in (rows.rewards, rows.terminated, rows.truncated, rows.success):
            array[where] = 0
        self._going[part] = list(range(where.start, where.stop))
        for row in range(where.start, where.stop):
            with self._at(row, 0):
                rows.obs[row] = self._envs[row].reset(int(rows.seeds[row]))
        self._check_finite(where, 0)

    def step(self, part: int) -> None:
        """A step of each row whose episode goes on; the others keep what they had."""
        rows, where = self.rows, self.parts[part]
        self._steps[part] += 1
        now, going, pulse, envs = self._steps[part], self._going[part], self._pulse, self._envs
        beat = self._next_beat()
        _, _, obs, rewards, terminated, truncated, success, _ = rows
        actions, first, row, ended = self.factory.decode(rows.actions[where]), where.start, 0, False
        pulse[1] = now
        try:
            for row in going:
                pulse[0] = beat + row
                obs[row], rewards[row], over, cut, success[row] = envs[row].step(
                    actions[row - first]
                )
                if over or cut:
                    terminated[row], truncated[row], ended = over, cut, True
        except Exception as error:
            raise _placed(error, "step", row, now) from None
        self._check_finite(where, now)
        if ended:
            self._going[part] = [row for row in going if not (terminated[row] or truncated[row])]

    def replay(self, part: int, history: Sequence[np.ndarray]) -> None:
        """A part's episodes from their seeds and actions, [rows of the part, act_dim] a step."""
        self.reset(part)
        for actions in history:
            self.rows.actions[self.parts[part]] = actions
            self.step(part)

    def close(self) -> None:
        while self._envs:
            self._envs.popitem()[1].close()

    @contextmanager
    def _at(self, row: int, step: int) -> Iterator[None]:
        """Says where this worker is, while it is there and when something fails."""
        self._pulse[0], self._pulse[1] = self._next_beat() + row, step
        try:
            yield
        except Exception as error:
            raise _placed(error, "environment", row, step) from None

    def _next_beat(self) -> int:
        """Whatever row is done next, the pulse is another than before; modulo N it is the row."""
        self._beats += 1
        return self._beats * len(self.rows.seeds)

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


def _placed(error: Exception, field: str, row: int, step: int) -> RowError:
    """An error with the place where it happened."""
    known = error if isinstance(error, RowError) else raised(field, error)
    return RowError(known.field, known.what, known.trace, row, step)
