"""What `python -m metarl.check_env` is asked; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from metarl.config.ranges import Count, Natural, Positive, Range
from metarl.config.settings import WorkerCount

Several = Annotated[int, Range(least=2)]


@dataclass(frozen=True)
class CheckOptions:
    """How much is played."""

    tasks: Several = 12
    """Different training tasks, or all if there are fewer."""
    episodes: Several = 10
    """Episodes of each, with random actions."""
    horizon: Count | Literal["auto"] = "auto"
    """Steps after which an episode is truncated; `auto` is the distribution's own."""
    seed: Natural = 1
    """Draws tasks, starts and actions."""
    workers: WorkerCount = "auto"
    """Processes (or threads) whose speed is measured; `auto` is one for each core."""
    worker_timeout: Positive = 60.0
    """Seconds that a step, a reset or a construction may take."""
    max_steps: Count = 25_000
    """Environment steps of the longest check: episodes are cut short for it, all at the same
    step. The others take at most as many, most of them a tenth."""
    plot: str = ""
    """A PNG to draw the returns of random actions to, task by task; empty: none."""
