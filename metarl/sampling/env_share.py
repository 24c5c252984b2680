"""Any BatchedEnv as the share of a worker: it opens an environment of its own for its units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from metarl.errors import DivergedError, EnvFaultError, UserError
from metarl.sampling.rows import DIVERGED, USER, RowError, Rows, Share, placed
from metarl.types import BatchedEnv, StepResult, Task, TaskDistribution, Workers

ALONE = Workers(0)


@dataclass(frozen=True)
class EnvShares:
    """Makes the shares of a distribution's BatchedEnvs; implements ShareFactory."""

    distribution: TaskDistribution
    size: int
    """Episodes of a unit. A share opens its environment for units in the place of tasks."""

    def share(self, rows: Rows, parts: Sequence[slice], worker: int) -> EnvShare:
        return EnvShare(self, rows, parts, worker)


class EnvShare(Share):
    """Steps its rows by one BatchedEnv, in a single part."""

    def __init__(self, factory: EnvShares, rows: Rows, parts: Sequence[slice], worker: int):
        super().__init__(rows, parts, worker)
        self._factory = factory
        self._env: BatchedEnv | None = None
        self._tasks: list[Task] = []
        """Task of each unit."""
        self._steps = 0

    def set_tasks(self, tasks: Mapping[int, Task]) -> None:
        """Sets the tasks of adjacent rows; which rows a worker has may change with the tasks."""
        if not tasks:  # a worker that was lost before the first tasks, and replaced
            return
        size = self._factory.size
        self.parts = [slice(min(tasks), max(tasks) + 1)]
        own = [tasks[row] for row in range(min(tasks), max(tasks) + 1, size)]
        with self._place(0):
            if self._env is None or len(own) != len(self._tasks):
                self.close()
                self._env = self._factory.distribution.open(len(own), size, ALONE)
            self._tasks = own
            self._env.set_tasks(own)

    def reset(self, part: int) -> None:
        assert self._env is not None, "a reset before set_tasks"
        where, self._steps = self.parts[part], 0
        self._clear(where)
        self._ended = np.zeros(where.stop - where.start, bool)
        with self._place(0):
            obs = self._env.reset(self.rows.seeds[where].reshape(-1, self._factory.size))
        self.rows.obs[where] = obs.reshape(len(self._ended), -1)
        self._check_finite(where, 0)

    def step(self, part: int) -> None:
        assert self._env is not None, "a step before set_tasks"
        rows, where, size = self.rows, self.parts[part], self._factory.size
        self._steps += 1
        with self._place(self._steps):
            actions = rows.actions[where]
            step = self._env.step(actions.reshape(-1, size, actions.shape[-1]))
        self._write(where, step)
        self._check_finite(where, self._steps)

    def _write(self, where: slice, step: StepResult) -> None:
        """Writes a step's results; behind an episode's end they may be anything, and are zero."""
        rows, ended = self.rows, self._ended
        rows.obs[where] = step.obs.reshape(len(ended), -1)
        for array, values in zip(
            (rows.rewards, rows.terminated, rows.truncated, rows.success), step[1:], strict=True
        ):
            array[where] = values.reshape(-1)
        if ended.any():
            for array in (rows.obs, rows.rewards, rows.success):
                array[where][ended] = 0
        self._ended = ended | rows.terminated[where] | rows.truncated[where]

    @contextmanager
    def _place(self, step: int) -> Iterator[None]:
        """Shows the step in the pulse, and turns errors into one that names the row."""
        first, size = self.parts[0].start, self._factory.size
        self._pulse[0], self._pulse[1] = self._next_beat() + first, step
        try:
            yield
        except (DivergedError, EnvFaultError) as error:
            row = first + self._unit_of(error) * size + error.episode
            if isinstance(error, DivergedError):
                raise RowError(DIVERGED, str(error), "", row, error.step) from None
            fault = error.field, error.what, error.trace, row, error.step
            raise RowError(*fault) from None
        except UserError as error:
            raise RowError(USER, str(error), "", first, step) from None
        except (RowError, KeyboardInterrupt):
            raise
        except BaseException as error:  # SystemExit too: an environment must not stop a worker
            raise placed(error, "environment", first, step) from None

    def _unit_of(self, error: DivergedError | EnvFaultError) -> int:
        if error.index is not None:
            return error.index
        told = repr(error.task)  # tasks may hold arrays, which have no equality
        return next((i for i, task in enumerate(self._tasks) if repr(dict(task)) == told), 0)

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None
