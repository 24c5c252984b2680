"""K x E environments whose rows are shared out over worker processes.

The episodes of every task are halved into two parts: while the policy thinks about one, the
workers step the other. (Where a worker steps its rows together, as arrays, they stay whole.) How
many workers there are decides only who steps which row, and an environment sees nothing but its
seed and its actions, so no result depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from metarl.errors import DivergedError, EnvFaultError
from metarl.sampling.executor import Executor, InProcess
from metarl.sampling.processes import Processes
from metarl.sampling.rows import DIVERGED, Plan, RowError, ShareFactory
from metarl.types import EnvSpec, StepResult, Task, Workers


class Pool:
    """The BatchedEnv of environments that run in Python."""

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
        """
        Args:
            payload_of: what travels of a task to whoever plays it; by itself the task.
            terms: names of what the factory's shares write to `Rows.terms`.
            together: a share steps its rows as arrays: they are not halved, and this process
                plays a share as well as the workers.
        """
        self.idle_while_acting = together
        """Whether all cores are the policy's while it acts."""
        plan = Plan.whole if together else Plan.halved
        self.plan, self._payload_of = plan(spec, num_tasks, episodes, terms), payload_of
        count = min(workers.count, self.plan.size)
        self.executor: Executor = (
            Processes(factory, self.plan, workers._replace(count=count), together)
            if count > together
            else InProcess(factory, self.plan)
        )
        self.parts = tuple(PoolPart(self, index) for index in range(len(self.plan.parts)))
        self._tasks: Sequence[Task] = ()

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        if len(tasks) != self.plan.num_tasks:
            raise ValueError(
                f"{len(tasks)} tasks in an environment opened for {self.plan.num_tasks}"
            )
        self._tasks = tasks
        payloads = tasks if self._payload_of is None else [self._payload_of(task) for task in tasks]
        of_row = self.plan.tasks_of_rows()
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
        """The plan's terms as the last step left them, each [K, E]."""
        terms, shape = self.executor.rows.terms, (self.plan.num_tasks, -1)
        return {
            name: np.concatenate([terms[x, i].reshape(shape) for x in self.plan.parts], axis=1)
            for i, name in enumerate(self.plan.terms)
        }

    def close(self) -> None:
        self.executor.close()

    def bad_action(self, actions: np.ndarray, first: int, step: int) -> FloatingPointError:
        """The error for actions [K, e, act_dim], of episodes from `first` on, with one that is no
        number: the policy is to blame, not what the environment makes of it."""
        k, e = np.argwhere(~np.isfinite(actions).all(axis=-1))[0].tolist()
        return FloatingPointError(
            f"{self.plan.spec.name}: action {actions[k, e]} of the policy, task "
            f"{dict(self._tasks[k])}, episode {e + first}, step {step}"
        )

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
        self._pool, self._executor, self._index = pool, pool.executor, index
        self.episodes, where = pool.plan.episodes[index], pool.plan.parts[index]
        shape = (pool.plan.num_tasks, self.episodes.stop - self.episodes.start)
        rows = pool.executor.rows
        found = (rows.obs, rows.rewards, rows.terminated, rows.truncated, rows.success)
        # Views: every step is written to the same place.
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
            raise self._pool.bad_action(actions, self.episodes.start, self._steps)
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
