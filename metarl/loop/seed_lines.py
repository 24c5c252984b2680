"""Shows how far the seeds of an experiment are, from the lines that their processes print."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from metarl.text import printable, say

ITERATION = re.compile(r"iteration (\d+)/\d+  (.*)")
OUTCOMES = ("return", "success", "loss", "accuracy")
"""Columns of a line of progress that say how good an agent is."""
PAUSE = 15.0
"""Least time between two lines about the progress of all where there is no terminal, s."""
REPEATED = re.compile(
    r"\w[^:]*: .*, kept in |.*\btorch threads? \(|done; next: |.* is done: it has |stopped"
    r"|$"
)
"""Lines of a single run that are told once for all seeds."""


class Said:
    """State of one seed by its lines."""

    def __init__(self) -> None:
        self.iteration = 0
        self.outcome = ""
        self.eta = ""
        self.error = ""
        """First line of the error that ended it."""
        self.begun = False
        self.end = ""
        """How it ended."""

    def hear(self, line: str) -> bool:
        """Takes up a line; returns whether it is one of progress."""
        if found := ITERATION.match(line):
            cells = found[2].split("  ")
            self.iteration = int(found[1])
            self.outcome = next((cell for cell in cells if cell.startswith(OUTCOMES)), "")
            self.eta = cells[-1]
            return True
        if line.startswith("error: ") and not self.error:
            self.error = line.removeprefix("error: ")
        return False

    def shown(self, iterations: int) -> str:
        """Returns the state in a line."""
        if self.end:
            return "  ".join(filter(None, [self.end, self.outcome]))
        if not self.iteration:
            return "begins" if self.begun else "waits"
        return "  ".join(filter(None, [f"{self.iteration}/{iterations}", self.outcome, self.eta]))


class Board:
    """A line for each seed on a terminal, now and then one line for all elsewhere."""

    def __init__(
        self, root: Path, iterations: int, seeds: Mapping[str, Said], told: Iterable[str] = ()
    ):
        """`told` are lines that are known, and are not repeated."""
        self._root, self._iterations, self._seeds = root, iterations, seeds
        self._heard = set(told)
        self._live: Any = None
        self._told = time.monotonic()

    def __enter__(self) -> Board:
        from rich.console import Console
        from rich.live import Live

        console = Console()
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(get_renderable=self._rows, console=console, refresh_per_second=1)
            self._live.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def line(self, name: str, line: str) -> None:
        """Takes up a line of a seed's process; shows it if it is neither progress nor known."""
        if self._seeds[name].hear(line) or REPEATED.match(line):
            return
        text = line.replace(str(self._root / name), "")
        if text not in self._heard:  # such as a note about the tasks, which all seeds have
            self._heard.add(text)
            self.note(f"{name}: {line}")

    def ended(self, name: str, code: int) -> None:
        """Says that a seed's process has ended."""
        said = self._seeds[name]
        said.end = "done" if code == 0 else "failed"
        if self._live is None:
            self.note(f"{name}: {said.shown(self._iterations)}")

    def note(self, text: str) -> None:
        """Shows a line above those of the seeds."""
        if self._live:
            self._live.console.print(
                printable(text), soft_wrap=True, markup=False, highlight=False, emoji=False
            )
        else:
            say(text)

    def refresh(self) -> None:
        """Shows the progress of all, where there is no terminal at most every 15 s."""
        if self._live is not None or time.monotonic() - self._told < PAUSE:
            return
        self._told = time.monotonic()
        running = {name: said for name, said in self._seeds.items() if not said.end}
        if any(said.iteration for said in running.values()):
            states = [f"{name} {said.shown(self._iterations)}" for name, said in running.items()]
            say("; ".join(states))
            sys.stdout.flush()

    def _rows(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for name, said in self._seeds.items():
            table.add_row(Text(name), Text(printable(said.shown(self._iterations))))
        return table
