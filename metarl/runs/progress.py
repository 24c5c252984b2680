"""Shows a run's progress: a live table on a terminal, plain lines elsewhere."""

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
from metarl.runs.metrics import by_step
from metarl.text import is_quiet, writable

ROWS = 12
"""Number of iterations in the live table."""
RECENT = 20
"""Number of recent iterations whose mean wall time gives the ETA."""
LEAST_NEEDED = (
    "update", "sampling", "steps/s", "tasks/s", "backtracks", "success", "env steps", "tasks", "kl",
)  # fmt: skip
"""Columns that a narrow table omits, in this order."""


class Progress:
    """Shows rows of metrics as they arrive."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic):
        self._console = console or Console(quiet=is_quiet())
        self._clock = clock
        self._live: Live | None = None
        # Replaced, never changed in place, because a thread of rich reads it too.
        self._shown: list[tuple[int, dict[str, str]]] = []
        self._seconds: list[float] = []

    def start(self, iterations: int, done: int = 0, used: int = 0, facts: str = "") -> None:
        """Shows the run before its first iteration, number `done` + 1 of `iterations`.

        `used` counts the environment steps or tasks before it; `facts` is a line to show.
        """
        self._iterations, self._done, self._used = iterations, done, used
        self._last = self._clock()
        if facts:
            self.note(facts)
        if done:
            self.note(f"continuing after iteration {done} of {iterations}")
        watched = self._console.is_terminal and not self._console.is_dumb_terminal
        if watched and not self._console.quiet:
            # One refresh a second shows that the run is alive and costs little.
            self._live = Live(
                get_renderable=self._screen, console=self._console, refresh_per_second=1
            )
            self._live.start()

    def update(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Shows the iteration that just ended."""
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
        """Shows a message on its own line, e.g. a checkpoint or a discarded iteration."""
        if self._console.quiet:
            return
        text = writable(message, self._console.file)
        self._console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)
        self._console.file.flush()

    def close(self) -> None:
        """Stops the live table, which stays on the screen; a second call does nothing."""
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
    """Removes columns, least needed first, until the lines fit into `width` characters."""

    def needed() -> int:
        columns = {name: [name, *(line.get(name, "") for line in lines)] for name in lines[-1]}
        return sum(max(map(len, texts)) + 2 for texts in columns.values()) - 2

    for name in LEAST_NEEDED:
        if needed() <= width:
            break
        lines = [{n: text for n, text in line.items() if n != name} for line in lines]
    return lines


def cells(metrics: Mapping[str, float], per_s: float) -> dict[str, str]:
    """Formats a row of metrics as column -> text, in order; missing metrics are left out.

    Args:
        per_s: environment steps, or tasks, per second.
    """
    key = _counted(metrics)
    used, speed = {"env_steps": ("env steps", "steps/s"), "tasks": ("tasks", "tasks/s")}[key]
    row = {used: short(metrics.get(key, math.nan)), speed: short(per_s)}
    for kind in ("return", "success", "loss", "accuracy"):
        if values := by_step(metrics, kind):
            row[kind] = _arrows([_value(kind, value) for value in values])
    if "kl" in metrics:
        row["kl"] = f"{metrics['kl']:.4f}"
    if "line_search/backtracks" in metrics:
        row["backtracks"] = f"{metrics['line_search/backtracks']:.0f}"
    for stage in ("sampling", "update"):
        if f"time/{stage}_s" in metrics:
            row[stage] = f"{metrics[f'time/{stage}_s']:.2f} s"
    return row


def _counted(metrics: Mapping[str, float]) -> str:
    """Returns the key that counts a run's experience; few-shot runs count tasks."""
    return "tasks" if "tasks" in metrics else "env_steps"


def _arrows(values: list[str]) -> str:
    """Joins the values of all steps by arrows; of more than four, the first two and the last."""
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
    """Formats a count in at most five characters: 950, 31.2k, 152M."""
    if not math.isfinite(number):
        return "?"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            digits = max(0, 2 - int(math.log10(abs(number) / size)))
            return f"{number / size:.{digits}f}{letter}"
    return f"{number:.0f}"


def duration(seconds: float) -> str:
    """Formats seconds as hours, minutes and seconds: 1:02:11, 4:07."""
    if not math.isfinite(seconds):
        return "?"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
