"""Shows how far an evaluation is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from metarl.runs.progress import duration
from metarl.text import say, writable

BETWEEN = 15.0
"""Least time between two lines where there is no terminal, s."""


class Watch:
    """Counts rounds of all learners, in each of which every task is played or adapted once."""

    def __init__(
        self,
        rounds: float,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """`rounds` counts those of the whole evaluation, times the tasks in each."""
        self._total, self._done, self._until = rounds, 0.0, 0.0
        self._clock, self._started = clock, clock()
        self._last = self._started
        self._console = console or Console()
        self._name, self._tasks, self._rounds = "", 0, 0
        self._bar: Bar | None = None

    def __enter__(self) -> Watch:
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            columns = TextColumn("{task.description}", markup=False), BarColumn(30)
            self._bar = Bar(*columns, console=self._console, transient=True, refresh_per_second=2)
            self._bar.add_task("", total=self._total)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @contextmanager
    def adapting(self, name: str, tasks: int, rounds: int) -> Iterator[None]:
        """Shows the learner called `name` while the block adapts it to its tasks.

        A learner that diverges has no more rounds to wait for.
        """
        self._name, self._tasks, self._rounds = name, tasks, rounds
        self._until = self._done + tasks * rounds
        self._show(0, tasks, 0)
        try:
            yield
        finally:
            self._done = self._until

    def round(self, start: int, end: int, number: int) -> None:
        """Notes that the tasks from `start` to `end` have ended their round `number`, from 1."""
        self._done = min(self._done + end - start, self._until)
        self._show(start, end, number)

    def _show(self, start: int, end: int, number: int) -> None:
        text = f"{self._text(start, end, number)}, {self._left()}"
        if self._bar is not None:
            line = writable(text, self._console.file)
            self._bar.update(self._bar.task_ids[0], completed=self._done, description=line)
        elif number and self._clock() - self._last >= BETWEEN:
            self._last = self._clock()
            say(text)

    def _text(self, start: int, end: int, number: int) -> str:
        which = f"{self._tasks} task{'s' if self._tasks != 1 else ''}"
        if end - start < self._tasks:
            which = f"tasks {start + 1} to {end} of {self._tasks}"
        return f"{self._name}: {which}, round {number} of {self._rounds}"

    def _left(self) -> str:
        if not self._done:
            return "time left unknown"
        seconds = (self._clock() - self._started) * (self._total / self._done - 1)
        return f"{duration(max(seconds, 0.0))} left"


class Unwatched(Watch):
    """Shows nothing."""

    def __init__(self) -> None:
        super().__init__(1.0)

    def _show(self, start: int, end: int, number: int) -> None:
        del start, end, number
