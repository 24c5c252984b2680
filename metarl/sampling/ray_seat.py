"""One of the actors that play a round, as the driver sees it: where it is, and whether it moves."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

from metarl.sampling.rows import Plan

START_S = 60.0
"""Longest time from asking for an actor to its first sign of life."""


class Seat:
    """An actor, and its signs of life while an answer is awaited."""

    def __init__(self, ray: Any, actor: Any, cpus: int, timeout_s: float):
        self.actor, self.cpus = actor, cpus
        """CPUs that the actor keeps other programs of the cluster from using."""
        self.node = self.host = ""
        """Id of the node, and its name in messages; empty until the actor is placed."""
        self._ray, self._timeout_s, self.pid = ray, timeout_s, 0
        self.place: Any = actor.place.remote()
        self._beat: Any = None
        """Reference to the pulse that was asked for, if it is not here yet."""
        self.pulse: tuple[int, int] | None = None
        """Last pulse and the step; None before the first."""
        self.ending: Any = None
        """Reference to the end of a process that hung."""
        self.start_watch()

    def placed(self) -> str:
        """Takes the answer to `place`, which has to be here; returns the id of the node."""
        self.node, self.pid = self._ray.get(self.place)
        return self.node

    def start_watch(self) -> None:
        """Starts the time that the actor has for its next move."""
        self._since = time.monotonic()

    def hangs(self) -> str:
        """Asks for a sign of life; returns for how long there was none if that is too long."""
        if self._beat is None:
            self._beat = self.actor.beat.options(concurrency_group="watch").remote()
        elif self._ray.wait([self._beat], timeout=0)[0]:
            with contextlib.suppress(self._ray.exceptions.RayError):  # the awaited call says more
                found = self._ray.get(self._beat)
                if found != self.pulse:
                    self.pulse = found
                    self.start_watch()
            self._beat = None
        limit = self._timeout_s if self.started else max(self._timeout_s, START_S)
        if time.monotonic() - self._since <= limit:
            return ""
        return f"{'hung' if self.started else 'did not start'} for more than {limit:g} s"

    @property
    def started(self) -> bool:
        """Whether the actor's process has begun to answer."""
        return bool(self._ray.wait([self.place], timeout=0)[0])

    def where(self, plan: Plan, tasks: Any) -> str:
        """Returns the task, the episode and the step of the last pulse, if there was one."""
        if self.pulse is None or not self.pulse[0]:
            return ""
        beat, step = self.pulse
        row = beat % plan.size
        return f" in task {dict(tasks[row])}, episode {plan.place(row)[1]}, step {step}"

    def end(self, strategy: Any = None) -> None:
        """Kills the actor; with the strategy that puts work on its node, also if it is stopped."""
        with contextlib.suppress(Exception):
            self._ray.kill(self.actor)
        if strategy is not None and self.started:
            ending = self._ray.remote(num_cpus=0, max_retries=0)(kill)
            self.ending = ending.options(scheduling_strategy=strategy).remote(self.pid)


def kill(pid: int) -> None:
    """Kills a process, which may be stopped or busy."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
