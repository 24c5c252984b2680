"""K x E environments that step one at a time each, shared out over worker processes.

The episodes of every task are halved into two parts: while the policy thinks about one, the
workers step the other. How many workers there are decides only who steps which row, and an
environment sees nothing but its seed and its actions, so no result depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from metarl.sampling.crew import Crew, ThisProcess
from metarl.sampling.processes import Processes
from metarl.sampling.rows import Plan, RowError, RowFactory
from metarl.types import EnvFaultError, EnvSpec, Step, Task, Workers


class Pool:
    """The BatchedEnv of environments that are no arrays."""

    def __init__(
        self, factory: RowFactory, spec: EnvSpec, num_tasks: int, episodes: int, workers: Workers
    ):
        self.plan = Plan.halved(spec, num_tasks, episodes)
        count = min(workers.count, self.plan.size)
        self.crew: Crew = (
            Processes(factory, self.plan, workers._replace(count=count))
            if count
            else ThisProcess(factory, self.plan)
        )
        self.parts = tuple(PoolPart(self, index) for index in range(len(self.plan.parts)))
        self._tasks: Sequence[Task] = ()

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        if len(tasks) != self.plan.num_tasks:
            raise ValueError(
                f"{len(tasks)} tasks in an environment opened for {self.plan.num_tasks}"
            )
        self._tasks = tasks
        with self.faults():
            self.crew.set_tasks([tasks[self.plan.place(row)[0]] for row in range(self.plan.size)])

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        for part in self.parts:
            part.start(seeds[:, part.episodes])
        return np.concatenate([part.first_obs() for part in self.parts], axis=1)

    def step(self, actions: np.ndarray) -> Step:
        for part in self.parts:
            part.send(actions[:, part.episodes])
        steps = [part.receive() for part in self.parts]
        return Step(*(np.concatenate(fields, axis=1) for fields in zip(*steps, strict=True)))

    def close(self) -> None:
        self.crew.close()

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Turns a row's error into one that names its task and episode."""
        try:
            yield
        except RowError as error:
            k, e = self.plan.place(error.row)
            raise EnvFaultError(
                self.plan.spec.name, self._tasks[k], e, error.step, error.field, error.what,
                error.trace,
            ) from None  # fmt: skip


class PoolPart:
    """Some episodes of every task: started and awaited apart from the others."""

    def __init__(self, pool: Pool, index: int):
        self._pool, self._index = pool, index
        self.episodes, self._at = pool.plan.episodes[index], pool.plan.parts[index]
        self._shape = (pool.plan.num_tasks, self.episodes.stop - self.episodes.start)

    def start(self, seeds: np.ndarray) -> None:
        with self._pool.faults():
            self._pool.crew.reset(self._index, seeds.reshape(-1))

    def first_obs(self) -> np.ndarray:
        with self._pool.faults():
            self._pool.crew.finish(self._index)
        return self._view(self._pool.crew.rows.obs)

    def send(self, actions: np.ndarray) -> None:
        with self._pool.faults():
            self._pool.crew.step(self._index, actions.reshape(-1, actions.shape[-1]))

    def receive(self) -> Step:
        with self._pool.faults():
            self._pool.crew.finish(self._index)
        rows = self._pool.crew.rows
        found = (rows.obs, rows.rewards, rows.terminated, rows.truncated, rows.success)
        return Step(*map(self._view, found))

    def _view(self, array: np.ndarray) -> np.ndarray:
        return array[self._at].reshape(*self._shape, *array.shape[1:])
