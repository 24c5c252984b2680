"""K x E environments that step one at a time each, shared out over worker processes.

The episodes of every task are halved into two parts: while the policy thinks about one, the
workers step the other. How many workers there are decides only who steps which row, and an
environment sees nothing but its seed and its actions, so no result depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.sampling.crew import Crew, ThisProcess
from metarl.sampling.processes import Processes
from metarl.sampling.rows import DIVERGED, Plan, RowError, RowFactory
from metarl.types import DivergedError, EnvFaultError, EnvSpec, Step, Task, Workers


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
        try:
            self.crew.set_tasks([tasks[self.plan.place(row)[0]] for row in range(self.plan.size)])
        except RowError as error:
            raise self.fault(error) from None

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

    def fault(self, error: RowError) -> EnvFaultError | DivergedError:
        """A row's error as one that names its task and episode."""
        k, e = self.plan.place(error.row)
        if error.field == DIVERGED:
            return DivergedError(self.plan.spec.name, self._tasks[k], e, error.step)
        return EnvFaultError(
            self.plan.spec.name, self._tasks[k], e, error.step, error.field, error.what, error.trace
        )


class PoolPart:
    """Some episodes of every task: started and awaited apart from the others."""

    checked = True

    def __init__(self, pool: Pool, index: int):
        self._pool, self._crew, self._index = pool, pool.crew, index
        self.episodes, where = pool.plan.episodes[index], pool.plan.parts[index]
        shape = (pool.plan.num_tasks, self.episodes.stop - self.episodes.start)
        rows = pool.crew.rows
        found = (rows.obs, rows.rewards, rows.terminated, rows.truncated, rows.success)
        # Views: every step is written to the same place.
        self._step = Step(*(x[where].reshape(*shape, *x.shape[1:]) for x in found))

    def start(self, seeds: np.ndarray) -> None:
        try:
            self._crew.reset(self._index, seeds.reshape(-1))
        except RowError as error:
            raise self._pool.fault(error) from None

    def first_obs(self) -> np.ndarray:
        return self.receive().obs

    def send(self, actions: np.ndarray) -> None:
        try:
            self._crew.step(self._index, actions.reshape(-1, actions.shape[-1]))
        except RowError as error:
            raise self._pool.fault(error) from None

    def receive(self) -> Step:
        try:
            self._crew.finish(self._index)
        except RowError as error:
            raise self._pool.fault(error) from None
        return self._step
