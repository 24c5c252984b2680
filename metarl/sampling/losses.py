"""Count of the workers that were lost, and the number of losses at which a run gives up."""

from __future__ import annotations

from collections import deque

from metarl.errors import WorkersFailedError

WINDOW = 100
"""Meta-batches within which `Workers.max_failures` are allowed."""


class WorkerWarning(UserWarning):
    """Says that a worker was replaced, or that its replay gave other observations."""


class Losses:
    """The losses of the last `WINDOW` meta-batches."""

    def __init__(self, most: int):
        self._most, self._meta_batch = most, 0
        self._lost: deque[int] = deque()
        """Meta-batch of each loss."""

    def next_meta_batch(self) -> None:
        self._meta_batch += 1

    def count(self, what: str) -> None:
        """Counts a loss.

        Raises:
            WorkersFailedError: for one more than are allowed.
        """
        self._lost.append(self._meta_batch)
        while self._lost[0] <= self._meta_batch - WINDOW:
            self._lost.popleft()
        if len(self._lost) > self._most:
            raise WorkersFailedError(
                f"{what}\n{len(self._lost)} workers lost within {WINDOW} iterations; check the "
                "environment at that step, or raise --worker-timeout if it is slow"
            )
