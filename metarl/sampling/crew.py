"""Who plays the rows: this process, or worker processes that are replaced when they are lost.

A worker that dies or hangs leaves nothing behind that counts: a new one plays its rows again from
their seeds and actions, and goes on.
"""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from metarl.errors import WorkersFailedError
from metarl.sampling.rows import Plan, RowFactory, Rows, Share
from metarl.sampling.worker import START, Worker, WorkerLostError, portable, shared_memory
from metarl.types import Task, Workers

TASKS = "tasks"
WINDOW = 100
"""Meta-batches within which `Workers.max_failures` are allowed."""


class WorkerWarning(UserWarning):
    """A worker was replaced, or its share could not be done again exactly."""


class Crew(Protocol):
    """Whoever plays the rows. Orders to a part are answered when it is finished."""

    rows: Rows

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """A task for each row."""
        ...

    def reset(self, part: int, seeds: np.ndarray) -> None: ...
    def step(self, part: int, actions: np.ndarray) -> None: ...
    def finish(self, part: int) -> None: ...
    def close(self) -> None: ...


class ThisProcess:
    """No workers: every order is carried out at once."""

    def __init__(self, factory: RowFactory, plan: Plan):
        self.rows = Rows.in_memory(plan, 1, bytearray(Rows.bytes_for(plan, 1)))
        self._parts = plan.parts
        self._share = Share(factory, self.rows, plan.parts, 0)

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        self._share.set_tasks(dict(enumerate(tasks)))

    def reset(self, part: int, seeds: np.ndarray) -> None:
        self.rows.seeds[self._parts[part]] = seeds
        self._share.reset(part)

    def step(self, part: int, actions: np.ndarray) -> None:
        self.rows.actions[self._parts[part]] = actions
        self._share.step(part)

    def finish(self, part: int) -> None: ...

    def close(self) -> None:
        self._share.close()


class Processes:
    """Worker processes, each with neighbouring rows of every part."""

    def __init__(self, factory: RowFactory, plan: Plan, workers: Workers):
        self._plan, self._settings = plan, workers
        self._factory = portable(factory)
        self._memory = shared_memory(Rows.bytes_for(plan, workers.count))
        self.rows = Rows.in_memory(plan, workers.count, self._memory)
        self._shares = [
            [_nth(part, index, workers.count) for part in plan.parts]
            for index in range(workers.count)
        ]
        self._tasks: Sequence[Task] = ()
        self._history: list[list[np.ndarray] | None] = [None] * len(plan.parts)
        """Actions of each part since its reset; None before the first."""
        self._meta_batches = 0
        self._lost: deque[int] = deque()
        """Meta-batches in which workers were lost, within the window."""
        self._workers: list[Worker] = []
        try:
            for index in range(workers.count):
                self._workers.append(self._new_worker(index))
        except BaseException:
            self.close()
            raise

    def _new_worker(self, index: int) -> Worker:
        return Worker(
            self._factory, self._plan, self._memory, index, self._shares[index], self._settings
        )

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        self._meta_batches += 1
        for part in range(len(self._history)):
            self.finish(part)  # of episodes that were given up, the last step
        self._tasks, self._history = tasks, [None] * len(self._history)
        for index, worker in enumerate(self._workers):
            worker.send(TASKS, "set_tasks", self._tasks_of(index))
        for index in range(len(self._workers)):
            self._finish(index, TASKS)

    def _tasks_of(self, index: int) -> dict[int, Task]:
        rows = (row for share in self._shares[index] for row in range(share.start, share.stop))
        return {row: self._tasks[row] for row in rows}

    def reset(self, part: int, seeds: np.ndarray) -> None:
        self.finish(part)
        self.rows.seeds[self._plan.parts[part]] = seeds
        self._history[part] = []
        for worker in self._workers:
            worker.send(part, "reset", part)

    def step(self, part: int, actions: np.ndarray) -> None:
        history = self._history[part]
        assert history is not None, "a step before the reset"
        self.rows.actions[self._plan.parts[part]] = actions
        history.append(self.rows.actions[self._plan.parts[part]].copy())
        for worker in self._workers:
            worker.step(part)

    def finish(self, part: int) -> None:
        for index in range(len(self._workers)):
            self._finish(index, part)

    def _finish(self, index: int, label: Any) -> None:
        while True:
            try:
                return self._workers[index].finish(label)
            except WorkerLostError as lost:
                self._replace(index, str(lost))

    def _replace(self, index: int, how: str) -> None:
        """A new worker in the place of a lost one, that plays its rows up to where they were."""
        started, old = time.perf_counter(), self._workers[index]
        waiting = set(old.waiting)
        old.end()
        what = f"{self._plan.spec.name}: worker {index} {how}{self._where(index, waiting)}"
        self._count_loss(what)
        before = self.rows.obs.copy()
        new = self._workers[index] = self._new_worker(index)
        new.send(TASKS, "set_tasks", self._tasks_of(index))
        for part, history in enumerate(self._history):
            if history is not None:
                first, own = self._plan.parts[part].start, self._shares[index][part]
                rows = slice(own.start - first, own.stop - first)
                new.send(part, "replay", part, [actions[rows] for actions in history])
        for part, history in enumerate(self._history):
            if history is not None:
                self._finish(index, part)
                if part not in waiting:
                    self._check_repeated(self._shares[index][part], before)
        self._finish(index, TASKS)
        seconds = time.perf_counter() - started
        warnings.warn(
            f"{what}; it was replaced and its share done again in {seconds:.1f} s",
            WorkerWarning,
            stacklevel=2,
        )

    def _where(self, index: int, waiting: set[Any]) -> str:
        if START in waiting:
            return " when it started (a script that trains needs `if __name__ == '__main__':`)"
        beat, step = self.rows.pulse[index].tolist()
        row = beat % self._plan.size
        _, episode = self._plan.place(row)
        return f" in task {dict(self._tasks[row])}, episode {episode}, step {step}"

    def _count_loss(self, what: str) -> None:
        self._lost.append(self._meta_batches)
        while self._lost[0] <= self._meta_batches - WINDOW:
            self._lost.popleft()
        if len(self._lost) > self._settings.max_failures:
            raise WorkersFailedError(
                f"{what}\nthat is {len(self._lost)} workers lost within {WINDOW} meta-batches; "
                "see what that environment does there, or --worker-timeout if it is slow"
            )

    def _check_repeated(self, share: slice, before: np.ndarray) -> None:
        """What the policy has seen must come again, or its actions belong to other states."""
        if not np.array_equal(self.rows.obs[share], before[share]):
            warnings.warn(
                f"{self._plan.spec.name}: the same seeds and actions led elsewhere when they "
                "were played again; `python -m metarl.check_env` tells more",
                WorkerWarning,
                stacklevel=3,
            )

    def close(self) -> None:
        """Ends every worker, those that hang too."""
        for worker in self._workers:
            worker.ask_to_stop()
        deadline = time.monotonic() + 1.0
        for worker in self._workers:
            worker.end(max(0.0, deadline - time.monotonic()))
        self._workers = []


def _nth(rows: slice, index: int, count: int) -> slice:
    """The index-th of `count` nearly equal runs of rows."""
    size = rows.stop - rows.start
    return slice(rows.start + size * index // count, rows.start + size * (index + 1) // count)
