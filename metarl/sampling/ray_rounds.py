"""Actors on a Ray cluster that play whole rounds: one call to each, and one answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from metarl.acting.policy import Acting
from metarl.acting.units import Units
from metarl.sampling.draws import RoundDraws
from metarl.sampling.play import first_of
from metarl.sampling.processes import GAIN, balanced
from metarl.sampling.ray_actor import Answer, for_user
from metarl.sampling.ray_team import Team
from metarl.sampling.record import Record
from metarl.sampling.rows import Plan, ShareFactory
from metarl.sampling.worker import WATCH_S, portable
from metarl.types import Task, Workers

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
        self._plan, self._divisible, self._timeout_s = plan, divisible, workers.timeout_s
        size = max(1, Record.bytes_for(plan.spec, plan.size, output_dim))
        # Pages of an empty array take no memory until they are written to.
        self.record = Record.in_memory(plan.spec, plan.size, output_dim, np.zeros(size, np.uint8))
        self._tasks: Sequence[Task] = ()
        self._payloads: Sequence[Any] = ()
        self._round: tuple[Any, RoundDraws] | None = None
        """Reference to the parameters, and the keys, while a round is played."""
        pickled = portable(factory).__getstate__()
        self._team = Team(plan, output_dim, pickled, workers, len(units))
        self._ray = self._team.ray
        self._units = units.divided(len(self._team.seats))
        self._spent = np.zeros(len(self._units))
        """Time that each actor took for the rounds of this meta-batch, s."""
        self.busy_s: Sequence[float] = [0.0] * len(self._units)

    @property
    def who(self) -> str:
        """The players, in a few words."""
        return self._team.who

    def set_tasks(self, tasks: Sequence[Task], payloads: Sequence[Any]) -> None:
        self._ready = False
        self._team.next_meta_batch()
        self._tasks, self._payloads, self._round = tasks, payloads, None
        if self._divisible:
            before = [units.start for units in self._units] + [self._units[-1].stop]
            edges = balanced(before, self._spent, GAIN)
            self._units = [self._units[0].part(start, stop) for start, stop in pairwise(edges)]
        self._spent[:] = 0.0
        self._answers()
        self._ready = True

    def play(self, acting: Acting, draws: RoundDraws) -> None:
        """Plays a round, which is in `record` afterwards.

        Raises:
            RowError: for the earliest fault of an environment or of the policy.
        """
        if not self._ready:
            raise ValueError("a round before `set_tasks`, or after one that was interrupted")
        self._round = self._ray.put(acting), draws
        try:
            answers = self._answers()
        finally:
            self._round = None
        record = self.record.of_width(acting.output_dim)
        for units, answer in zip(self._units, answers, strict=True):
            _write(record.part(units.rows), answer.episodes)
        self.busy_s = [answer.busy_s for answer in answers]
        self._spent += self.busy_s

    def close(self) -> None:
        """Ends every actor, by force if it hangs, and Ray if it was started here."""
        self._team.close()

    def _ask(self, index: int, new: bool = False) -> Any:
        """Gives an actor the round, or its tasks, or both if it is new; returns the reference of
        the last answer."""
        actor, units, answer = self._team.seats[index].actor, self._units[index], None
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
        waiting = {index: self._ask(index) for index in range(len(self._team.seats))}
        for seat in self._team.seats:
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
                    if how := self._team.seats[index].hangs():
                        waiting[index] = self._replace(index, how, True)
        self._raise_first(found)
        return [found[index] for index in range(len(self._team.seats))]

    def _raise_first(self, found: dict[int, Answer]) -> None:
        errors = [
            for_user(answer.error, self._team.seats[index].host)
            for index, answer in found.items()
            if answer.error is not None
        ]
        if errors:
            raise first_of(errors)

    def _replace(self, index: int, how: str, hangs: bool) -> Any:
        """Replaces a lost actor; returns the reference of the answer that its share then gives."""
        self._team.replace(index, how, hangs, self._tasks)
        return self._ask(index, new=True)


def _write(part: Record, episodes: tuple[np.ndarray, ...]) -> None:
    """Writes the arrays that an actor returned to the record of its episodes."""
    steps, found = len(episodes[0]), Record(*episodes)
    part.begin()
    for name in ("obs", "actions", "outputs", "rewards"):
        getattr(part, name)[:steps] = getattr(found, name)
    for name in ("final_obs", "lengths", "terminated", "truncated", "solved_at"):
        getattr(part, name)[:] = getattr(found, name)
    part.clear_after(steps)


def _how(error: Exception) -> str:
    """Returns how an actor was lost, for a message that names the actor before it."""
    kind = type(error).__name__
    if kind in ("ActorDiedError", "RayActorError"):
        return "died"
    if kind == "OutOfMemoryError":
        return "was killed: its node has no memory left"
    return f"was lost ({kind})"
