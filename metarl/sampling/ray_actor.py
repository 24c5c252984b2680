"""The actor that plays some units of each round on a node of a Ray cluster.

It needs neither torch nor Ray's own modules; an actor is this class in a process that Ray starts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
from threadpoolctl import threadpool_limits

from metarl.acting.policy import Acting
from metarl.acting.units import Units
from metarl.sampling.draws import RoundDraws
from metarl.sampling.play import Round, play
from metarl.sampling.record import Record
from metarl.sampling.rows import USER, Plan, RowError, Rows, Share, faults_of

IMPORT = "import"
"""`field` of a RowError for modules that a node cannot import."""


class Answer(NamedTuple):
    """Answer of an actor to its tasks or to a round."""

    error: RowError | None
    episodes: tuple[np.ndarray, ...] = ()
    """The record's arrays of the actor's episodes, as many steps as were played."""
    busy_s: float = 0.0
    """Time that the round took here, in seconds."""


class RayActor:
    """Plays the episodes of neighbouring units, in one process of a node.

    Its methods return errors: what Ray raises for a call is then always the actor's loss.
    """

    def __init__(self, plan: Plan, output_dim: int, factory: bytes):
        """`factory` is a pickled ShareFactory, read at the first tasks: reading it imports."""
        self._limits = threadpool_limits(1)  # there is an actor for each core
        self._plan, self._output_dim, self._factory = plan, output_dim, factory
        self._rows = Rows.in_memory(plan, 1, bytearray(Rows.bytes_for(plan, 1)))
        self._units: Units | None = None
        self._share: Share | None = None
        self._record: Record | None = None
        self._failed: RowError | None = None
        """Error of the last tasks."""

    def place(self) -> tuple[str, int]:
        """Returns the id of the node, and of the process there."""
        import ray

        return ray.get_runtime_context().get_node_id(), os.getpid()

    def set_tasks(self, units: Units, payloads: Mapping[int, Any]) -> Answer:
        """Sets the tasks of the units' rows; other units than before if shares are divisible."""
        self._failed = None
        try:
            share = self._share or self._new_share(units)
            share.set_tasks(payloads)
            if units != self._units:
                self._units, self._record = units, self._new_record(units)
        except RowError as error:
            self._failed = error
        return Answer(self._failed)

    def play(self, acting: Acting, draws: RoundDraws, units: Units) -> Answer:
        """Plays a round of the units, with the parameters of all tasks."""
        if self._failed is not None:
            return Answer(self._failed)
        assert self._share is not None, "a round before the tasks"
        assert self._record is not None, "a round before the tasks"
        started, record = time.perf_counter(), self._record.of_width(acting.output_dim)
        try:
            play(self._share, units, Round(acting.of(units.groups()), draws), record)
        except RowError as error:
            return Answer(error)
        steps = int(record.filled.max())
        episodes = (*(x[:steps] for x in record[:4]), *record[4:])
        return Answer(None, episodes, time.perf_counter() - started)

    def beat(self) -> tuple[int, int]:
        """Returns the pulse, which changes with every row that is stepped, and the step."""
        beat, step = self._rows.pulse[0, :2].tolist()
        return beat, step

    def close(self) -> None:
        if self._share is not None:
            self._share.close()

    def _new_record(self, units: Units) -> Record:
        shape = self._plan.spec, units.rows.stop - units.rows.start, self._output_dim
        return Record.in_memory(*shape, np.zeros(max(1, Record.bytes_for(*shape)), np.uint8))

    def _new_share(self, units: Units) -> Share:
        with faults_of(IMPORT):
            share = cloudpickle.loads(self._factory).share(self._rows, [units.rows], 0)
        self._share = share
        return share


def for_user(error: RowError, node: str) -> RowError:
    """Returns the error of an actor on `node` as one that says what to do about missing modules."""
    if error.field != IMPORT and "ModuleNotFoundError" not in error.what:
        return error
    return RowError(
        USER,
        f"Ray's node {node} cannot load this environment: {error.what}\n"
        "install its modules on every node, or run `ray start` there in the folder that has them",
        error.trace,
        error.row,
        error.step,
    )
