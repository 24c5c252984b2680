"""The outcome of an attack, how much of it is tried, and the table of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")


class Effort(NamedTuple):
    """How much is tried; 0 is everything."""

    kinds: int = 0
    moments: int = 50
    """Random moments of each kind of run at which it is killed."""
    events: int = 0
    pairs: int = 0
    """Pairs of signals."""
    workers: int = 20
    bytes: int = 0
    """Positions of each file that is flipped or cut."""
    configs: int = 0
    files: int = 300
    disks: int = 50
    settings: int = 0
    evaluations: int = 0
    """File events of an evaluation at which it is killed."""
    iterations: int = 2000

    def some(self, items: list[Item], number: int) -> list[Item]:
        """Returns `number` of the items, evenly spread and always the same ones; 0: all."""
        if not number or number >= len(items):
            return items
        return [items[i * len(items) // number] for i in range(number)]


SHORT = Effort(
    kinds=2, moments=1, events=4, pairs=1, workers=1, bytes=20, configs=40, files=16, disks=2,
    settings=8, evaluations=2, iterations=100,
)  # fmt: skip
"""Effort of the test suite."""


@dataclass(frozen=True)
class Result:
    """What an attack did."""

    promise: str
    tried: int
    faults: Sequence[str] = field(default_factory=tuple)
    figure: str = ""
    """A measured figure, such as a peak of memory."""

    @property
    def held(self) -> int:
        return self.tried - len(self.faults)


def counted(promise: str, answers: Sequence[str | None], figure: str = "") -> Result:
    """Returns the result of tries: each gave a fault or an empty text, or None for want of time."""
    tried = [each for each in answers if each is not None]
    if len(tried) < len(answers):
        figure = f"{figure}; no time for {len(answers) - len(tried):,} more".removeprefix("; ")
    return Result(promise, len(tried), [each for each in tried if each], figure)


def row(result: Result, seconds: float) -> str:
    """Returns a line of the table, in Markdown."""
    figure = result.figure or "-"
    return (
        f"| {result.promise} | {result.held:,} of {result.tried:,} | {figure} | {seconds:.0f} s |"
    )


HEAD = "| promise | held | figure | time |\n|---|---|---|---|"
