"""Who plays the rows: this process here, worker processes in processes.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from metarl.sampling.rows import Plan, Rows, ShareFactory
from metarl.types import Task


class Executor(Protocol):
    """Whoever plays the rows. Orders to a part are answered when it is finished."""

    rows: Rows

    def set_tasks(self, tasks: Sequence[Task], payloads: Sequence[Any]) -> None:
        """A task for each row, and the payload that travels to whoever plays it."""
        ...

    def reset(self, part: int, seeds: np.ndarray) -> None: ...
    def step(self, part: int, actions: np.ndarray) -> None: ...
    def finish(self, part: int) -> None: ...
    def close(self) -> None: ...


class InProcess:
    """No workers: every order is carried out at once."""

    def __init__(self, factory: ShareFactory, plan: Plan):
        self.rows = Rows.in_memory(plan, 1, bytearray(Rows.bytes_for(plan, 1)))
        self._parts = plan.parts
        self._share = factory.share(self.rows, plan.parts, 0)

    def set_tasks(self, tasks: Sequence[Task], payloads: Sequence[Any]) -> None:
        self._share.set_tasks(dict(enumerate(payloads)))

    def reset(self, part: int, seeds: np.ndarray) -> None:
        self.rows.seeds[self._parts[part]] = seeds
        self._share.reset(part)

    def step(self, part: int, actions: np.ndarray) -> None:
        self.rows.actions[self._parts[part]] = actions
        self._share.step(part)

    def finish(self, part: int) -> None: ...

    def close(self) -> None:
        self._share.close()
