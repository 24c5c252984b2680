"""Actors on a Ray cluster that play whole rounds: one call to each, and one answer."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from metarl.acting.policy import Acting
from metarl.acting.units import Units
from metarl.errors import UserError, WorkersFailedError
from metarl.sampling.draws import RoundDraws
from metarl.sampling.losses import Losses, WorkerWarning
from metarl.sampling.play import first_of
from metarl.sampling.processes import PATIENCE_S, balanced
from metarl.sampling.ray_actor import Answer, RayActor, for_user
from metarl.sampling.ray_cluster import Connection, first_line, host_of
from metarl.sampling.ray_seat import START_S, Seat
from metarl.sampling.record import Record
from metarl.sampling.rows import Plan, ShareFactory
from metarl.sampling.worker import WATCH_S, portable
from metarl.types import Cluster, Task, Workers

AGAIN_S = 0.2
"""Wait before an actor that was out of reach is asked again."""


class RayRounds:
    """Plays rounds by actors, each with neighbouring units of the episodes.

    Parameters go into Ray's object store once a round. An actor that is lost is replaced, and its
    share of the round is played again from the same keys. No result depends on the loss.
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
        """Starts an actor for each CPU of the cluster, or as many as were asked for.

        Raises:
            UserError: where the cluster or its nodes cannot play these environments.
        """
        assert workers.cluster is not None, "actors without a cluster"
        self._plan, self._divisible = plan, divisible
        self._timeout_s, self._losses = workers.timeout_s, Losses(workers.max_failures)
        self._made_from = plan, output_dim, portable(factory).__getstate__()
        size = max(1, Record.bytes_for(plan.spec, plan.size, output_dim))
        # Pages of an empty array take no memory until they are written to.
        self.record = Record.in_memory(plan.spec, plan.size, output_dim, np.zeros(size, np.uint8))
        self._tasks: Sequence[Task] = ()
        self._payloads: Sequence[Any] = ()
        self._round: tuple[Any, RoundDraws] | None = None
        """Reference to the parameters, and the keys, while a round is played."""
        self._lost_nodes: set[str] = set()
        self._seats: list[Seat] = []
        self._ending: list[Any] = []
        """References to the ends of actors that hung."""
        self._connection = Connection.to(workers.cluster)
        self._ray = self._connection.ray
        try:
            self._units = units.divided(self._count(workers.cluster, len(units)))
            self.busy_s: Sequence[float] = [0.0] * len(self._units)
            self._spent = np.zeros(len(self._units))
            self._open()
        except BaseException:
            self.close()
            raise

    @property
    def who(self) -> str:
        """Who plays, in a few words."""
        count, nodes = len(self._seats), len({seat.node for seat in self._seats})
        return f"{count} Ray actor{'s' * (count > 1)} on {nodes} node{'s' * (nodes > 1)}"

    def set_tasks(self, tasks: Sequence[Task], payloads: Sequence[Any]) -> None:
        self._losses.next_meta_batch()
        self._tasks, self._payloads, self._round = tasks, payloads, None
        if self._divisible:
            before = [units.start for units in self._units] + [self._units[-1].stop]
            edges = balanced(before, self._spent)
            self._units = [self._units[0].part(start, stop) for start, stop in pairwise(edges)]
        self._spent[:] = 0.0
        self._answers()

    def play(self, acting: Acting, draws: RoundDraws) -> None:
        """Plays a round, which is in `record` afterwards.

        Raises:
            RowError: for the earliest fault of an environment or of the policy.
        """
        self._round = self._ray.put(acting), draws
        try:
            answers = self._answers()
        finally:
            self._round = None
        for units, answer in zip(self._units, answers, strict=True):
            _write(self.record.part(units.rows), answer.episodes)
        self.busy_s = [answer.busy_s for answer in answers]
        self._spent += self.busy_s

    def close(self) -> None:
        """Ends every actor, by force if it hangs, and Ray if it was started here."""
        closing = [seat.actor.close.remote() for seat in self._seats]
        with contextlib.suppress(Exception):
            ready, _ = self._ray.wait(closing, num_returns=len(closing), timeout=PATIENCE_S)
            for seat, reference in zip(self._seats, closing, strict=True):
                self._end(seat, reference not in ready)
            self._ray.wait(self._ending, num_returns=len(self._ending), timeout=PATIENCE_S)
        self._seats = []
        self._connection.close()

    def _end(self, seat: Seat, hangs: bool) -> None:
        """Ends an actor; one that hangs by a task on its node, as it does not hear Ray."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            if hangs and seat.started:
                seat.placed()
        seat.end(self._connection.on(seat.node, soft=False) if hangs and seat.node else None)
        if seat.ending is not None:
            self._ending.append(seat.ending)

    def _count(self, cluster: Cluster, most: int) -> int:
        cpus = len(self._connection.slots())
        if cluster.actors > cpus or not cpus:
            raise UserError(
                f"--actors is {cluster.actors or 'auto'}, and Ray's nodes have {cpus} CPUs in all\n"
                "give fewer, or add nodes: ray start --address=HOST:PORT"
            )
        return min(cluster.actors or cpus, most)

    def _open(self) -> None:
        """Starts the actors. Those of the first player take a CPU each; others are used by turns
        with it, and take the same CPUs."""
        count, alone = len(self._units), self._connection.players == 1
        slots = self._connection.slots()
        for index in range(count):
            node = None if alone else slots[index * len(slots) // count]
            self._seats.append(self._seat(int(alone), node))
        places = [seat.place for seat in self._seats]
        try:
            here, late = self._ray.wait(places, num_returns=count, timeout=START_S)
            if late:
                raise UserError(
                    f"{len(late)} of {count} Ray actors found no free CPU in {START_S:g} s\n"
                    f"give fewer than the cluster has CPUs: --actors {max(1, len(here))}"
                )
            self._find_hosts()
        except self._ray.exceptions.RayError as error:
            raise UserError(f"a Ray actor does not start: {first_line(error)}") from error

    def _find_hosts(self) -> None:
        """Notes where the actors are."""
        nodes = self._connection.nodes()
        for seat in self._seats:
            seat.host = host_of(nodes.get(seat.placed(), {}))

    def _seat(self, cpus: int, node: str | None) -> Seat:
        """Starts an actor, if possible on a node."""
        options: dict[str, Any] = {"num_cpus": cpus, "concurrency_groups": {"watch": 1}}
        if node is not None:
            options["scheduling_strategy"] = self._connection.on(node, soft=True)
        actor = self._ray.remote(**options)(RayActor).remote(*self._made_from)
        return Seat(self._ray, actor, cpus, self._timeout_s)

    def _ask(self, index: int, new: bool = False) -> Any:
        """Gives an actor the round, or its tasks, or both if it is new; returns the reference of
        the last answer."""
        actor, units, answer = self._seats[index].actor, self._units[index], None
        if new or self._round is None:
            rows = range(units.rows.start, units.rows.stop)
            payloads = {row: self._payloads[row] for row in rows} if self._payloads else {}
            answer = actor.set_tasks.remote(units, payloads)
        if self._round is not None:
            answer = actor.play.remote(*self._round, units)
        return answer

    def _answers(self) -> list[Answer]:
        """Asks all actors and returns their answers; replaces those that are lost.

        Raises:
            RowError: for the earliest fault.
        """
        found: dict[int, Answer] = {}
        waiting = {index: self._ask(index) for index in range(len(self._seats))}
        for seat in self._seats:
            seat.start_watch()
        watch_s = min(WATCH_S, self._timeout_s)
        watched = time.monotonic()
        while waiting:
            ready, _ = self._ray.wait(list(waiting.values()), timeout=watch_s)
            for index in [i for i, reference in waiting.items() if reference in ready]:
                reference = waiting.pop(index)
                try:
                    found[index] = self._ray.get(reference, timeout=self._timeout_s)
                except self._ray.exceptions.RayTaskError:
                    raise
                except self._ray.exceptions.ActorUnavailableError:
                    # Dead or only out of reach: asked again until Ray or the watch knows.
                    time.sleep(AGAIN_S)
                    waiting[index] = self._ask(index, new=True)
                except self._ray.exceptions.RayError as error:
                    waiting[index] = self._replace(index, _how(error), False)
            if time.monotonic() - watched >= watch_s:
                watched = time.monotonic()
                for index in waiting:
                    if how := self._seats[index].hangs():
                        waiting[index] = self._replace(index, how, True)
        self._raise_first(found)
        return [found[index] for index in range(len(self._seats))]

    def _raise_first(self, found: dict[int, Answer]) -> None:
        errors = [
            for_user(answer.error, self._seats[index].host)
            for index, answer in found.items()
            if answer.error is not None
        ]
        if errors:
            raise first_of(errors)

    def _replace(self, index: int, how: str, hangs: bool) -> Any:
        """Replaces a lost actor; returns the reference of the answer that its share then gives.

        The new one takes the CPU of the old, or none where the node is lost: all others may be
        taken. All actors of a lost node are one loss.
        """
        lost, nodes = self._seats[index], self._connection.nodes()
        where = lost.where(self._plan, self._tasks)
        what = f"{self._plan.spec.name}: actor {index} on {lost.host} {how}{where}"
        self._end(lost, hangs)
        alive = lost.node in nodes
        if alive or lost.node not in self._lost_nodes:
            self._losses.count(what)
        if not nodes:
            raise WorkersFailedError(f"{what}\nno node with a CPU is left in Ray's cluster")
        slots = self._connection.slots()
        node = lost.node if alive else slots[index % len(slots)]
        self._seats[index] = self._seat(lost.cpus if alive and lost.started else 0, node)
        self._seats[index].node, self._seats[index].host = node, host_of(nodes[node])
        if not alive:
            self._lost_nodes.add(lost.node)
        warnings.warn(f"{what}; another plays its share", WorkerWarning, stacklevel=3)
        return self._ask(index, new=True)


def _write(part: Record, episodes: tuple[np.ndarray, ...]) -> None:
    """Writes the arrays that an actor returned to the record of its episodes."""
    steps = len(episodes[0])
    for own, found in zip(part[:4], episodes[:4], strict=True):
        own[:steps] = found
    for own, found in zip(part[4:-1], episodes[4:-1], strict=True):
        own[:] = found
    part.clear_after(steps)


def _how(error: Exception) -> str:
    """Returns how an actor was lost, for a message that names the actor before it."""
    kind = type(error).__name__
    if kind in ("ActorDiedError", "RayActorError"):
        return "died"
    if kind == "OutOfMemoryError":
        return "was killed: its node has no memory left"
    return f"was lost ({kind})"
