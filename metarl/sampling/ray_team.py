"""The actors of a player: where they are, who takes the place of a lost one, how many were lost."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from typing import Any

from metarl.errors import UserError, WorkersFailedError
from metarl.sampling.losses import Losses, WorkerWarning
from metarl.sampling.processes import PATIENCE_S
from metarl.sampling.ray_actor import RayActor
from metarl.sampling.ray_cluster import Connection
from metarl.sampling.ray_facts import first_line, host_of
from metarl.sampling.ray_seat import START_S, Seat
from metarl.sampling.rows import Plan
from metarl.types import Task, Workers


class Team:
    """The actors of one player."""

    def __init__(self, plan: Plan, output_dim: int, factory: bytes, workers: Workers, most: int):
        """Starts an actor for each CPU of the cluster, or as many as were asked for; at most
        `most`.

        Raises:
            UserError: where the cluster or its nodes cannot take them.
        """
        assert workers.cluster is not None, "actors without a cluster"
        self._plan, self._made_from = plan, (plan, output_dim, factory)
        self._timeout_s, self._losses = workers.timeout_s, Losses(workers.max_failures)
        self._lost_nodes: set[str] = set()
        self.seats: list[Seat] = []
        self._ending: list[Any] = []
        """References to the ends of actors that hung."""
        self._connection = Connection.to(workers.cluster)
        self.ray = self._connection.ray
        try:
            self._open(workers.cluster.actors, most)
        except BaseException:
            self.close()
            raise

    @property
    def who(self) -> str:
        """The players, in a few words."""
        count, nodes = len(self.seats), len({seat.node for seat in self.seats})
        return f"{count} Ray actor{'s' * (count > 1)} on {nodes} node{'s' * (nodes > 1)}"

    def next_meta_batch(self) -> None:
        self._losses.next_meta_batch()

    def replace(self, index: int, how: str, hangs: bool, tasks: Sequence[Task]) -> None:
        """Puts a new actor in the place of one that was lost, as `how` says.

        It takes the CPU of the old one, or none where the node is lost: all others may be taken.
        All actors of a lost node are one loss.

        Raises:
            WorkersFailedError: for more losses than are allowed, or if no node is left.
        """
        lost = self.seats[index]
        self._end(lost, hangs)
        nodes, slots = self._connection.nodes(), self._connection.slots()
        where = lost.where(self._plan, tasks)
        what = f"{self._plan.spec.name}: actor {index} on {lost.host} {how}{where}"
        alive = lost.node in nodes
        if alive or lost.node not in self._lost_nodes:
            self._losses.count(what)
        if not alive:
            self._lost_nodes.add(lost.node)
        if not slots:
            raise WorkersFailedError(f"{what}\nno node with a CPU is left in Ray's cluster")
        node = lost.node if alive else slots[index % len(slots)]
        seat = self._seat(lost.cpus if alive and lost.started else 0, node)
        seat.node, seat.host = node, host_of(nodes.get(node, {}))
        self.seats[index] = seat
        warnings.warn(f"{what}; another plays its share", WorkerWarning, stacklevel=4)

    def close(self) -> None:
        """Ends every actor, by force if it hangs, and Ray if it was started here."""
        closing = [seat.actor.close.remote() for seat in self.seats]
        with contextlib.suppress(self.ray.exceptions.RayError, ValueError):
            ready: list[Any] = []
            if closing:
                ready, _ = self.ray.wait(closing, num_returns=len(closing), timeout=PATIENCE_S)
            for seat, reference in zip(self.seats, closing, strict=True):
                self._end(seat, reference not in ready)
            if self._ending:
                self.ray.wait(self._ending, num_returns=len(self._ending), timeout=PATIENCE_S)
        self.seats = []
        self._connection.close()

    def _open(self, asked: int, most: int) -> None:
        """Starts the actors. Those of the first player take a CPU each; others are used by turns
        with it, and take the same CPUs."""
        slots, alone = self._connection.slots(), self._connection.players == 1
        if asked > len(slots) or not slots:
            raise UserError(
                f"--actors is {asked or 'auto'}, and Ray's nodes have {len(slots)} CPUs in all\n"
                "give fewer, or add nodes: ray start --address=HOST:PORT"
            )
        count = min(asked or len(slots), most)
        for index in range(count):
            node = None if alone else slots[index * len(slots) // count]
            self.seats.append(self._seat(int(alone), node))
        places = [seat.place for seat in self.seats]
        here, late = self.ray.wait(places, num_returns=count, timeout=START_S)
        if late:
            raise UserError(
                f"{len(late)} of {count} Ray actors found no free CPU in {START_S:g} s\n"
                f"give fewer than the cluster has CPUs: --actors {max(1, len(here))}"
            )
        nodes = self._connection.nodes()
        try:
            for seat in self.seats:
                seat.host = host_of(nodes.get(seat.placed(), {}))
        except self.ray.exceptions.RayError as error:
            raise UserError(f"a Ray actor does not start: {first_line(error)}") from error

    def _seat(self, cpus: int, node: str | None) -> Seat:
        """Starts an actor, if possible on a node."""
        options: dict[str, Any] = {"num_cpus": cpus, "concurrency_groups": {"watch": 1}}
        if node is not None:
            options["scheduling_strategy"] = self._connection.on(node, soft=True)
        actor = self.ray.remote(**options)(RayActor).remote(*self._made_from)
        return Seat(self.ray, actor, cpus, self._timeout_s)

    def _end(self, seat: Seat, hangs: bool) -> None:
        """Ends an actor; one that hangs by a task on its node, as it does not hear Ray."""
        if seat.started:
            with contextlib.suppress(self.ray.exceptions.RayError):
                seat.placed()
        seat.end(self._connection.on(seat.node, soft=False) if hangs and seat.node else None)
        if seat.ending is not None:
            self._ending.append(seat.ending)
