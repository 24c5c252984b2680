"""What the user sees while a run trains: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from metarl.runs.measures import decimals

ROWS = 12
"""Iterations that the live table shows."""
RECENT = 20
"""Iterations whose mean wall time the estimate of the end is made from."""
LEAST_NEEDED = (
    "update", "sampling", "steps/s", "tasks/s", "backtracks", "success", "env steps", "tasks", "kl",
)  # fmt: skip
"""Columns that leave a narrow table, in this order."""


class Progress:
    """Shows `metrics.jsonl`'s rows as they come."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic):
        self._console = console or Console()
        self._clock = clock
        self._live: Live | None = None
        # Replaced, never changed in place: the table is also drawn by a thread of rich.
        self._shown: list[tuple[int, dict[str, str]]] = []
        self._seconds: list[float] = []

    def start(
        self,
        title: str,
        iterations: int,
        done: int = 0,
        env_steps: int = 0,
        facts: str = "",
        tasks: int = 0,
    ) -> None:
        """Shows the run at once, before its first iteration.

        Args:
            title: e.g. the preset and the run directory.
            iterations: how many there will be in all.
            done: how many were done before: what a resumed run starts from.
            env_steps: environment steps used before.
            facts: e.g. threads, simulations and steps/s.
            tasks: learned from before, where a run counts those in place of environment steps.
        """
        self._iterations, self._done, self._used = iterations, done, env_steps or tasks
        self._last = self._clock()
        if title:
            self.note(title)
        if facts:
            self.note(facts)
        if done:
            self.note(f"continuing after iteration {done} of {iterations}")
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            # Once a second: a shown clock proves life, and two cores have better to do.
            self._live = Live(
                get_renderable=self._screen, console=self._console, refresh_per_second=1
            )
            self._live.start()

    def update(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Shows one iteration that has just ended."""
        now = self._clock()
        seconds, self._last = now - self._last, now
        self._seconds = [*self._seconds, seconds][-RECENT:]
        used = metrics.get(_counted(metrics), math.nan)
        more, self._used = used - self._used, self._used if math.isnan(used) else used
        self._done = iteration
        row = cells(metrics, more / seconds if seconds > 0 else math.nan)
        if self._live:
            self._shown = [*self._shown, (iteration, row)][-ROWS:]
            self._live.refresh()
        else:
            head, tail = f"iteration {iteration}/{self._iterations}", f"ETA {self._eta()}"
            self.note("  ".join([head, *(f"{name} {value}" for name, value in row.items()), tail]))

    def note(self, message: str) -> None:
        """Shows a line of its own, e.g. a checkpoint or an iteration that was thrown away."""
        self._console.print(message, soft_wrap=True, markup=False, highlight=False, emoji=False)
        self._console.file.flush()

    def close(self) -> None:
        """Leaves the last table on the screen. Again does nothing."""
        if self._live:
            self._live.stop()
            self._live = None

    def _eta(self) -> str:
        if not self._seconds:
            return "unknown"
        return duration((self._iterations - self._done) * sum(self._seconds) / len(self._seconds))

    def _screen(self) -> Group:
        shown = self._shown
        running = duration(self._clock() - self._last)
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=self._iterations, completed=self._done, width=40),
            Text(f"{self._done}/{self._iterations}  this one {running}  ETA {self._eta()}"),
        )
        if not shown:
            return Group(bar)
        table = Table(box=None, pad_edge=False, header_style="bold")
        lines = fitting(
            [{"iteration": str(number), **row} for number, row in shown], self._console.width
        )
        for name in lines[-1]:
            table.add_column(name, justify="right", no_wrap=True)
        for line in lines:
            table.add_row(*(line.get(name, "") for name in lines[-1]))
        return Group(table, bar)


def fitting(lines: list[dict[str, str]], width: int) -> list[dict[str, str]]:
    """The lines without the columns, least needed first, that `width` characters lack room for."""

    def needed() -> int:
        columns = {name: [name, *(line.get(name, "") for line in lines)] for name in lines[-1]}
        return sum(max(map(len, texts)) + 2 for texts in columns.values()) - 2

    for name in LEAST_NEEDED:
        if needed() <= width:
            break
        lines = [{n: text for n, text in line.items() if n != name} for line in lines]
    return lines


def cells(metrics: Mapping[str, float], per_s: float) -> dict[str, str]:
    """A row as the user reads it: column -> text, in order; what was not measured is left out.

    Args:
        per_s: environment steps, or tasks, per second.
    """
    key = _counted(metrics)
    used, speed = {"env_steps": ("env steps", "steps/s"), "tasks": ("tasks", "tasks/s")}[key]
    row = {used: short(metrics.get(key, math.nan)), speed: short(per_s)}
    for kind in ("return", "success", "loss", "accuracy"):
        by_step = _by_step(metrics, kind)
        if by_step:
            row[kind] = _arrows([_value(kind, value) for value in by_step])
    if "kl" in metrics:
        row["kl"] = f"{metrics['kl']:.4f}"
    if "line_search/backtracks" in metrics:
        row["backtracks"] = f"{metrics['line_search/backtracks']:.0f}"
    for stage in ("sampling", "update"):
        if f"time/{stage}_s" in metrics:
            row[stage] = f"{metrics[f'time/{stage}_s']:.2f} s"
    return row


def _counted(metrics: Mapping[str, float]) -> str:
    """What measures a run's length: a few-shot one has no environment."""
    return "tasks" if "tasks" in metrics else "env_steps"


def _by_step(metrics: Mapping[str, float], kind: str) -> list[float]:
    """The values of kind/step0, kind/step1, ..."""
    values: list[float] = []
    while f"{kind}/step{len(values)}" in metrics:
        values.append(metrics[f"{kind}/step{len(values)}"])
    return values


def _arrows(values: list[str]) -> str:
    """Before -> after each step; of many, the first two and the last."""
    return " -> ".join(values if len(values) <= 4 else [*values[:2], "...", values[-1]])


def _value(kind: str, value: float) -> str:
    match kind:
        case "success":
            return f"{100 * value:.0f}%"
        case "accuracy":
            return f"{100 * value:.1f}%"
        case "loss":
            return f"{value:.{decimals(value)}f}"
    return f"{value:.1f}"


def short(number: float) -> str:
    """A count in at most five characters: 950, 31.2k, 152M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            digits = max(0, 2 - int(math.log10(abs(number) / size)))
            return f"{number / size:.{digits}f}{letter}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:11, 4:07."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
