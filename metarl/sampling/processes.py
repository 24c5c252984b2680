"""Worker processes that play the rows and are replaced when they die or hang.

A new worker replays the lost worker's rows from their seeds and actions, then goes on. No result
depends on the loss.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from metarl.errors import WorkersFailedError
from metarl.sampling.losses import Losses, WorkerWarning
from metarl.sampling.main_script import advice
from metarl.sampling.rows import BUSY, Plan, RowError, Rows, Share, ShareFactory
from metarl.sampling.shared_memory import shared_memory
from metarl.sampling.worker import (
    INTERRUPTED,
    START,
    Worker,
    WorkerLostError,
    portable,
)
from metarl.types import Task, Workers

TASKS = "tasks"
GAIN = 0.3
"""Part of the way to an equal division that whole rounds go after each meta-batch: on a machine
that others use too, a worker that was slow once need not be slow again."""
ROUGHLY = 0.03
"""Share of the time that workers may differ by without a new division of their work."""
PATIENCE_S = 5.0
"""Seconds that workers may take to close their environments."""


class Processes:
    """Plays the rows by worker processes, each with neighbouring rows of every part.

    With `together` this process plays the last share itself, so that its core does not idle. The
    shares are then divided anew for every meta-batch, by the time that they took, so that all end
    at about the same time.
    """

    def __init__(self, factory: ShareFactory, plan: Plan, workers: Workers, together: bool = False):
        self._plan, self._parts, self._settings = plan, plan.parts, workers
        self._factory = portable(factory)
        self._memory = shared_memory(Rows.bytes_for(plan, workers.count))
        self.rows = Rows.in_memory(plan, workers.count, self._memory)
        self._shares = self._first_shares(workers.count)
        self._tasks: Sequence[Task] = ()
        self._payloads: Sequence[Any] = ()
        self._history: list[list[np.ndarray] | None] = [None] * len(plan.parts)
        """Actions of each part since its reset; None before its first reset."""
        self._seen = self.rows.obs.copy()
        """Last obs that the policy received."""
        self._beats = self.rows.pulse[:, 0].copy()
        """Pulse of each worker when the tasks were set."""
        self._losses = Losses(workers.max_failures)
        self._ready = False
        """Whether all workers have the tasks."""
        self._workers: list[Worker] = []
        self._own: Share | None = None
        try:
            for index in range(workers.count - together):
                self._workers.append(self._new_worker(index))
            if together:
                self._own = factory.share(self.rows, self._shares[-1], workers.count - 1)
        except BaseException:
            self.close()
            raise

    def _first_shares(self, count: int) -> list[list[slice]]:
        """Returns the rows of each part, for each worker."""
        return [[_nth(part, index, count) for part in self._parts] for index in range(count)]

    def _new_worker(self, index: int) -> Worker:
        return Worker(
            self._factory, self._plan, self._memory, index, self._shares[index], self._settings
        )

    def set_tasks(self, tasks: Sequence[Task], payloads: Sequence[Any]) -> None:
        self._losses.next_meta_batch()
        self._ready = False
        self._history = [None] * len(self._history)
        self._drain()
        self._tasks, self._payloads = tasks, payloads
        self._divide_anew()
        self._beats = self.rows.pulse[:, 0].copy()
        for index, worker in enumerate(self._workers):
            worker.send(TASKS, "set_tasks", self._tasks_of(index))
        if self._own is not None:
            self._own.set_tasks(self._tasks_of(len(self._workers)))
        for index in range(len(self._workers)):
            self._finish(index, TASKS)
        self._ready = True

    def _divide_anew(self) -> None:
        """Divides the rows for the next meta-batch, if they can be: by the last one's times."""
        if self._own is not None:
            before = [share.start for (share,) in self._shares] + [self._plan.size]
            edges = balanced(before, self.rows.pulse[:, BUSY])
            self._shares = [[slice(start, stop)] for start, stop in pairwise(edges)]

    def _drain(self) -> None:
        """Awaits the outstanding answers of abandoned episodes and ignores their errors.

        Messages to a worker that hangs would otherwise pile up and fill its pipe.
        """
        for index in range(len(self._workers)):
            while waiting := self._workers[index].waiting:
                if waiting[-1] == START:
                    self._finish(index, START)
                else:
                    self._settle(index, waiting[-1])

    def _settle(self, index: int, label: Any) -> None:
        """Awaits a worker's answers up to the last `label` and ignores its row errors."""
        while label in self._workers[index].waiting:
            with contextlib.suppress(RowError):
                self._finish(index, label)

    def _tasks_of(self, index: int) -> dict[int, Any]:
        rows = (row for share in self._shares[index] for row in range(share.start, share.stop))
        return {row: self._payloads[row] for row in rows} if self._payloads else {}

    def reset(self, part: int, seeds: np.ndarray) -> None:
        if not self._ready:
            raise ValueError("a reset before `set_tasks`, or after one that was interrupted")
        for index in range(len(self._workers)):
            self._settle(index, part)
        self.rows.seeds[self._parts[part]] = seeds
        self._history[part] = []
        for worker in self._workers:
            worker.send(part, "reset", part)
        if self._own is not None:
            self._own.reset(part)

    def step(self, part: int, actions: np.ndarray) -> None:
        history, rows = self._history[part], self._parts[part]
        assert history is not None, "a step before the reset"
        self.rows.actions[rows] = actions
        history.append(self.rows.actions[rows].copy())
        for worker in self._workers:
            worker.step(part)
        if self._own is not None:
            self._own.step(part)

    def finish(self, part: int) -> None:
        for index in range(len(self._workers)):
            self._finish(index, part)
        rows = self._parts[part]
        self._seen[rows] = self.rows.obs[rows]

    def _finish(self, index: int, label: Any) -> None:
        while True:
            try:
                return self._workers[index].finish(label)
            except WorkerLostError as lost:
                self._replace(index, str(lost))

    def _replace(self, index: int, how: str) -> None:
        """Replaces a lost worker by a new one that replays its rows to the same step."""
        started, waiting = time.perf_counter(), set(self._workers[index].waiting)
        while True:
            what = f"{self._plan.spec.name}: worker {index} {how}{self._where(index, how)}"
            if START in self._workers[index].waiting and how.startswith("exited"):
                raise WorkersFailedError(what)  # it exited while loading; a new one would too
            self._workers[index].end()
            if how != INTERRUPTED:
                self._losses.count(what)
            self._workers[index] = self._new_worker(index)
            try:
                self._play_again(self._workers[index], index, waiting)
                break
            except WorkerLostError as lost:
                how = str(lost)
                warnings.warn(f"{what}; its replacement was lost too", WorkerWarning, stacklevel=3)
        seconds = time.perf_counter() - started
        warnings.warn(
            f"{what}; it was replaced and its share replayed in {seconds:.1f} s",
            WorkerWarning,
            stacklevel=2,
        )

    def _play_again(self, worker: Worker, index: int, waiting: set[Any]) -> None:
        """Sends a new worker the lost one's tasks, seeds and actions. Awaits each answer, because
        a full pipe to a worker that hangs would block before its timeout is checked."""
        worker.finish(START)
        worker.send(TASKS, "set_tasks", self._tasks_of(index))
        worker.finish(TASKS)
        for part, history in enumerate(self._history):
            if history is None:
                continue
            share, first = self._shares[index][part], self._parts[part].start
            own = [actions[share.start - first : share.stop - first] for actions in history]
            if part in waiting and not own:
                worker.send(part, "reset", part)
                worker.finish(part)
                continue
            worker.send(part, "replay", part, own[:-1] if part in waiting else own)
            worker.finish(part)
            self._check_repeated(share)
            if part in waiting:
                self.rows.actions[share] = own[-1]
                worker.step(part)
                worker.finish(part)

    def _where(self, index: int, how: str) -> str:
        waiting = self._workers[index].waiting
        if START in waiting:
            return advice(how)
        beat, step = self.rows.pulse[index, :2].tolist()
        if beat == self._beats[index] and set(waiting) == {TASKS}:
            return " between two meta-batches"
        row = beat % self._plan.size
        _, episode = self._plan.place(row)
        return f" in task {dict(self._tasks[row])}, episode {episode}, step {step}"

    def _check_repeated(self, share: slice) -> None:
        """Warns if a replay ends in other obs than the policy acted on."""
        if not np.array_equal(self.rows.obs[share], self._seen[share]):
            warnings.warn(
                f"{self._plan.spec.name}: the same seeds and actions gave other observations "
                "when they were replayed; `metarl check-env` tells more",
                WorkerWarning,
                stacklevel=4,
            )

    def close(self) -> None:
        """Ends every worker, by force if it hangs."""
        for worker in self._workers:
            worker.ask_to_stop()
        deadline = time.monotonic() + PATIENCE_S
        for worker in self._workers:
            worker.end(max(0.0, deadline - time.monotonic()))
        self._workers = []
        if self._own is not None:
            self._own.close()
            self._own = None


def balanced(edges: Sequence[int], busy: np.ndarray, gain: float = 1.0) -> list[int]:
    """Returns new edges of shares, so that all take equally long.

    The n shares between the old `edges` took `busy` [n]. Differences of `ROUGHLY` change nothing.
    A `gain` below 1 goes that part of the way, so that chance changes little. Each share keeps at
    least one row or unit.
    """
    if not busy.all() or busy.max() < (1.0 + ROUGHLY) * busy.mean():
        return list(edges)
    due = np.linspace(0.0, busy.sum(), len(busy) + 1)
    ends = np.concatenate([[0.0], busy.cumsum(dtype=np.float64)])
    wanted = np.interp(due, ends, edges)
    found = (np.array(edges) + gain * (wanted - edges)).round().astype(int)
    places = np.arange(len(found))
    found = np.maximum.accumulate(found - places) + places
    return np.minimum(found, edges[-1] - places[::-1]).tolist()


def _nth(rows: slice, index: int, count: int) -> slice:
    """Returns the index-th of `count` consecutive, nearly equal slices of `rows`."""
    size = rows.stop - rows.start
    return slice(rows.start + size * index // count, rows.start + size * (index + 1) // count)
