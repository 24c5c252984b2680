"""The rows played in this process; `processes.Processes` has the same interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from metarl.sampling.rows import Plan, Rows, ShareFactory
from metarl.types import Task


class InProcess:
    """Plays all rows in this process, so that a reset or a step of a part completes at once."""

    def __init__(self, factory: ShareFactory, plan: Plan):
        self.rows = Rows.in_memory(plan, 1, bytearray(Rows.bytes_for(plan, 1)))
        self._parts = plan.parts
        self._share = factory.share(self.rows, plan.parts, 0)

    def set_tasks(self, tasks: Sequence[Task], payloads: Sequence[Any]) -> None:
        """Sets the task of each row; `payloads` are what is sent to its player."""
        self._share.set_tasks(dict(enumerate(payloads)))

    def reset(self, part: int, seeds: np.ndarray) -> None:
        self.rows.seeds[self._parts[part]] = seeds
        self._share.reset(part)

    def step(self, part: int, actions: np.ndarray) -> None:
        self.rows.actions[self._parts[part]] = actions
        self._share.step(part)

    def finish(self, part: int) -> None:
        """Awaits the reset or the step of a part; nothing is awaited here."""

    def close(self) -> None:
        self._share.close()
