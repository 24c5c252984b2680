"""Options of `metarl check-env`; imports neither torch nor a simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from metarl.config.ranges import Count, Natural, Range, Seconds
from metarl.config.settings import ThreadCount, WorkerCount

Several = Annotated[int, Range(least=2)]


@dataclass(frozen=True)
class CheckOptions:
    """How much the checks play."""

    tasks: Several = 12
    """Different training tasks to play, or all if there are fewer."""
    episodes: Several = 10
    """Episodes of each task, with random actions."""
    horizon: Count | Literal["auto"] = "auto"
    """Steps after which an episode is truncated; `auto` is the distribution's own."""
    seed: Natural = 1
    """Seed of tasks, starts and actions."""
    workers: WorkerCount = "auto"
    """Worker processes (or threads) whose speed is measured; `auto` is as many as `threads`."""
    threads: ThreadCount = "auto"
    """Threads of torch; `auto` is OMP_NUM_THREADS, else one for each core."""
    worker_timeout: Seconds = 60.0
    """Longest time of a step, a reset or a constructor, in seconds."""
    max_steps: Count = 25_000
    """Most environment steps of a check; most checks take a tenth. Longer episodes are all cut
    short at the same step."""
    plot: str = ""
    """PNG file for a plot of the returns of random actions by task; empty: no plot."""
