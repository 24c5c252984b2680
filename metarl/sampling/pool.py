"""K x E environments whose rows are distributed over worker processes.

The episodes of every task are halved into two parts: the workers step one part while the policy
acts in the other. Environments that step as arrays stay in one part. The number of workers decides
only which process steps a row. An environment depends only on its seed and its actions, so no
result depends on that number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from metarl.errors import DivergedError, EnvFaultError
from metarl.sampling.executor import InProcess
from metarl.sampling.processes import Processes
from metarl.sampling.rows import DIVERGED, Plan, RowError, ShareFactory, bad_action
from metarl.types import EnvSpec, StepResult, Task, Workers, check_number


class Pool:
    """BatchedEnv of environments that run in Python."""

    def __init__(
        self,
        factory: ShareFactory,
        spec: EnvSpec,
        num_tasks: int,
        episodes: int,
        workers: Workers,
        payload_of: Callable[[Task], Any] | None = None,
        terms: tuple[str, ...] = (),
        together: bool = False,
    ):
        """Starts the worker processes, or none if this process can play all rows.

        Args:
            payload_of: task -> what is sent to its player; by default the task itself.
            terms: names of the numbers that the factory's shares write to `Rows.terms`.
            together: whether shares step rows as arrays, in one part; this process plays one too.
        """
        self.idle_while_acting = together
        """Whether no environment steps while the policy acts, so that it may use all cores."""
        self.plan = Plan.divided(spec, num_tasks, episodes, 1 if together else 2, terms)
        self._payload_of = payload_of
        count = min(workers.count, self.plan.size)
        self.executor = (
            Processes(factory, self.plan, workers._replace(count=count), together)
            if count > together
            else InProcess(factory, self.plan)
        )
        self.parts = tuple(PoolPart(self, index) for index in range(len(self.plan.parts)))
        self.tasks: Sequence[Task] = ()

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        check_number(tasks, self.plan.num_tasks)
        self.tasks = tasks
        payloads = tasks if self._payload_of is None else [self._payload_of(task) for task in tasks]
        of_row = [self.plan.place(row)[0] for row in range(self.plan.size)]
        try:
            self.executor.set_tasks([tasks[k] for k in of_row], [payloads[k] for k in of_row])
        except RowError as error:
            raise self.fault(error) from None

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        for part in self.parts:
            part.start(seeds[:, part.episodes])
        return np.concatenate([part.first_obs() for part in self.parts], axis=1)

    def step(self, actions: np.ndarray) -> StepResult:
        for part in self.parts:
            part.send(actions[:, part.episodes])
        steps = [part.receive() for part in self.parts]
        return StepResult(*(np.concatenate(fields, axis=1) for fields in zip(*steps, strict=True)))

    @property
    def info(self) -> dict[str, np.ndarray]:
        """Values of the plan's terms after the last step, each [K, E]."""
        terms, shape = self.executor.rows.terms, (self.plan.num_tasks, -1)
        return {
            name: np.concatenate([terms[x, i].reshape(shape) for x in self.plan.parts], axis=1)
            for i, name in enumerate(self.plan.terms)
        }

    def close(self) -> None:
        self.executor.close()

    def fault(self, error: RowError) -> EnvFaultError | DivergedError:
        """Converts a row's error to one that names its task and episode."""
        return fault_at(error, self.plan.spec.name, self.tasks, *self.plan.place(error.row))


def fault_at(
    error: RowError, name: str, tasks: Sequence[Task], k: int, e: int
) -> EnvFaultError | DivergedError:
    """Converts a row's error to one that names its task k and its episode e."""
    if error.field == DIVERGED:
        return DivergedError(name, tasks[k], e, error.step, k)
    return EnvFaultError(name, tasks[k], e, error.step, error.field, error.what, error.trace, k)


class PoolPart:
    """Part with some episodes of every task, started and awaited apart from the other parts."""

    checked = True

    def __init__(self, pool: Pool, index: int):
        self._pool, self._executor, self._index = pool, pool.executor, index
        self.episodes, where = pool.plan.episodes[index], pool.plan.parts[index]
        shape = (pool.plan.num_tasks, self.episodes.stop - self.episodes.start)
        rows = pool.executor.rows
        found = (rows.obs, rows.rewards, rows.terminated, rows.truncated, rows.success)
        # These are views: every step is written to the same memory.
        self._step = StepResult(*(x[where].reshape(*shape, *x.shape[1:]) for x in found))
        self._steps = 0

    def start(self, seeds: np.ndarray) -> None:
        self._steps = 0
        try:
            self._executor.reset(self._index, seeds.reshape(-1))
        except RowError as error:
            raise self._pool.fault(error) from None

    def first_obs(self) -> np.ndarray:
        return self.receive().obs

    def send(self, actions: np.ndarray) -> None:
        self._steps += 1
        if not np.isfinite(actions).all():
            name, tasks, first = self._pool.plan.spec.name, self._pool.tasks, self.episodes.start
            raise bad_action(name, actions, tasks, self._steps, first)
        try:
            self._executor.step(self._index, actions.reshape(-1, actions.shape[-1]))
        except RowError as error:
            raise self._pool.fault(error) from None

    def receive(self) -> StepResult:
        try:
            self._executor.finish(self._index)
        except RowError as error:
            raise self._pool.fault(error) from None
        return self._step
