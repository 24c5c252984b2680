"""Worker processes that play whole rounds: one message to each, and one answer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from metarl.acting.policy import Acting
from metarl.acting.units import Units
from metarl.sampling.draws import RoundDraws
from metarl.sampling.play import Round, first_of
from metarl.sampling.processes import GAIN, TASKS, Processes, balanced
from metarl.sampling.rows import ROUND, Plan, RowError, ShareFactory
from metarl.sampling.shared_memory import SharedRecord
from metarl.sampling.worker import START, Worker
from metarl.types import Workers

PLAY = "play"


class RoundProcesses(Processes):
    """Plays rounds by worker processes, each with neighbouring units of the episodes.

    A round goes to a worker as parameters and keys. It comes back in shared memory. A worker that
    is lost is replaced, and its share of the round is played again from the same keys.
    """

    def __init__(
        self,
        factory: ShareFactory,
        plan: Plan,
        units: Units,
        workers: Workers,
        output_dim: int,
        divisible: bool,
    ):
        """`divisible`: whether shares may be divided anew for each meta-batch, by their times."""
        self._units, self._divisible = units.divided(workers.count), divisible
        self._spent = np.zeros(workers.count)
        """Time that each worker took for the rounds of this meta-batch, s."""
        self._asked: list[Round] | None = None
        self._shared = SharedRecord(plan.spec, plan.size, output_dim)
        self.record = self._shared.open()
        super().__init__(factory, plan, workers)

    def _first_shares(self, count: int) -> list[list[slice]]:
        return [[units.rows] for units in self._units]

    def _new_worker(self, index: int) -> Worker:
        return Worker(
            self._factory, self._plan, self._memory, index, self._shares[index], self._settings,
            self._shared,
        )  # fmt: skip

    @property
    def busy_s(self) -> list[float]:
        """Time that each worker took for the last round, in seconds."""
        return (self.rows.pulse[:, ROUND] * 1e-9).tolist()

    def play(self, acting: Acting, draws: RoundDraws) -> None:
        """Plays a round, which is in `record` afterwards.

        Raises:
            RowError: for the earliest fault of an environment or of the policy.
        """
        if not self._ready:
            raise ValueError("a round before `set_tasks`, or after one that was interrupted")
        self._ready = False
        asked = self._asked = [Round(acting.of(units.groups()), draws) for units in self._units]
        try:
            for worker, units, own in zip(self._workers, self._units, asked, strict=True):
                worker.send(PLAY, PLAY, units, own)
            errors = []
            for index in range(len(self._workers)):
                try:
                    self._finish(index, PLAY)
                except RowError as error:
                    errors.append(error)
        finally:
            self._asked = None
        self._ready = True
        if errors:
            raise first_of(errors)
        self._spent += self.busy_s

    def _divide_anew(self) -> None:
        if self._divisible:
            before = [units.start for units in self._units] + [self._units[-1].stop]
            edges = balanced(before, self._spent, GAIN)
            self._units = [self._units[0].part(start, stop) for start, stop in pairwise(edges)]
            self._shares = [[units.rows] for units in self._units]
        self._spent[:] = 0.0

    def _play_again(self, worker: Worker, index: int, waiting: set[Any]) -> None:
        """Gives a new worker the lost one's tasks and its round, and awaits each answer."""
        worker.finish(START)
        worker.send(TASKS, "set_tasks", self._tasks_of(index))
        worker.finish(TASKS)
        if PLAY in waiting and self._asked is not None:
            worker.send(PLAY, PLAY, self._units[index], self._asked[index])
            worker.finish(PLAY)
