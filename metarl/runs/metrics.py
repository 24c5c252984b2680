"""Writes and reads a run's metrics: a line of JSON per iteration."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from metarl import found
from metarl.config.ranges import MOST_WHOLE
from metarl.errors import UserError
from metarl.runs.directory import RunDirectory
from metarl.runs.files import append_bytes, open_own
from metarl.text import shown

FIRST = ("iteration", "env_steps", "tasks", "wall_s")
"""Keys that come first in a line; the others follow in natural order (step2 before step10)."""

MOST_LINE = 1 << 20
"""Bytes of a line."""
LARGEST = 1e150
"""Largest size of a number whose square is finite."""
MOST_ROWS = 5000
"""Rows that are read for a picture."""
MOST_VALUES = 1_000_000
"""Values in the rows that are read."""

T = TypeVar("T")
Row = dict[str, float]
"""Metrics of one iteration; NaN where a value was not finite."""


class MetricsLog:
    """Appends to metrics.jsonl, starting after a checkpoint's iteration."""

    def __init__(self, run: RunDirectory, iteration: int = 0):
        """Removes lines of iterations after `iteration`, which the run will repeat."""
        if run.metrics.exists():
            rewind(run.metrics, iteration)
        self._path = run.metrics

    def append(self, row: Mapping[str, float]) -> None:
        """Writes one iteration; `row` has "iteration", its number counted from 1.

        The line is on the disk when this returns, so no checkpoint is ahead of the log.
        """
        append_bytes(self._path, line(row))


def line(row: Mapping[str, float]) -> bytes:
    """Returns a row as a line of JSON; null is not finite, and equal rows give equal bytes."""
    names = [name for name in FIRST if name in row]
    names += sorted(row.keys() - set(FIRST), key=natural)
    return (json.dumps({name: _number(row[name]) for name in names}) + "\n").encode()


def _number(value: float) -> int | float | None:
    if isinstance(value, (int, np.integer)):
        return int(value)
    return float(value) if math.isfinite(value) else None


def natural(name: str) -> list[tuple[int, str]]:
    """Returns a sort key that orders digits as numbers: step2 before step10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def rewind(path: Path, iteration: int) -> None:
    """Removes the lines after `iteration`, and a half-written last line."""
    kept = end = 0
    with found.opened(path) as file:
        size = os.fstat(file.fileno()).st_size
    for text, row in _rows(path):
        if row["iteration"] > iteration:
            break
        kept, end = kept + 1, end + len(text)
    if kept != iteration:
        warnings.warn(
            f"{path} has {kept} of the {iteration} lines before the checkpoint", stacklevel=2
        )
    if end < size:
        # A crash leaves the old end or the new one.
        with open(open_own(path, os.O_RDWR), "r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())


def count(path: Path) -> int:
    """Returns the number of a log's lines; raises as `read`."""
    return sum(1 for _ in _lines(path)) if path.exists() else 0


def read(path: Path) -> list[Row]:
    """Reads the rows of a metrics.jsonl, even while it is being written.

    Of a long log these are as many evenly spaced ones as a picture shows, up to the last.

    Raises:
        UserError: for a line that holds no metrics.
    """
    lines = count(path)
    if not lines:
        return []
    _, first = next(_rows(path))
    every = -(-lines // min(MOST_ROWS, max(1, MOST_VALUES // len(first))))
    rows: list[Row] = []
    names: set[str] = set()
    for _, row in _rows(path, every, lines):
        rows.append(row)
        names.update(row)
        if len(names) * len(rows) > 2 * MOST_VALUES:
            raise UserError(f"{path} has {len(names):,} names in {len(rows):,} lines; no run has")
    return rows


def each(path: Path) -> Iterator[Row]:
    """Yields all rows of a log, one after the other; raises as `read`."""
    return (row for _, row in _rows(path))


def _lines(path: Path) -> Iterator[bytes]:
    """Yields the whole lines of a log; a last line that lacks its newline is left out."""
    with found.opened(path) as file:
        number = 0
        while (text := file.readline(MOST_LINE + 1)).endswith(b"\n"):
            number += 1
            yield text
        if len(text) > MOST_LINE:
            raise UserError(f"{path}, line {number + 1} holds no metrics: it is too long")


def _rows(path: Path, every: int = 1, lines: int | None = None) -> Iterator[tuple[bytes, Row]]:
    """Yields lines with their rows: of the first `lines` each one that is a multiple of `every`
    before the last."""
    before = 0
    for number, text in enumerate(_lines(path), start=1):
        if lines is not None and number > lines:
            return
        if lines is not None and (lines - number) % every:
            continue
        row = _row(text, f"{path}, line {number} holds no metrics")
        if row["iteration"] <= before:
            raise UserError(
                f"{path}, line {number} holds no metrics: iteration {row['iteration']:.0f} comes "
                f"after {before:.0f}"
            )
        before = row["iteration"]
        yield text, row


def _row(text: bytes, fault: str) -> Row:
    try:
        values = found.parsed(text, "it", values=100_000)
    except UserError as error:
        raise UserError(f"{fault}: {error}") from None
    # Names are shared by the rows, which takes a tenth of the memory.
    row = {sys.intern(name): _value(value) for name, value in values.items()}
    for name in (*FIRST, *row):
        value = row.get(name, 0.0 if name != "iteration" else math.nan)
        if value is None or (name in FIRST and not 0 <= value <= MOST_WHOLE):
            raise UserError(f"{fault}: {shown(name)} is {shown(values.get(name, 'missing'))}")
    if not isinstance(row["iteration"], int) or not row["iteration"]:
        raise UserError(f"{fault}: 'iteration' is {shown(values['iteration'])}")
    return row  # pyright: ignore[reportReturnType]  None was refused


def _value(value: Any) -> float | None:
    """Returns a number, NaN for one too large to compute with, and None for what is none."""
    if value is None or (isinstance(value, float) and not abs(value) < LARGEST):
        return math.nan
    known = type(value) is float or (type(value) is int and abs(value) <= MOST_WHOLE)
    return value if known else None


def columns(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Converts rows to columns: name -> [iterations] float64, NaN where a row lacks the name."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, math.nan) for row in rows], float) for name in names}


def by_step(table: Mapping[str, T], name: str) -> list[T]:
    """Returns the values of name/step0, name/step1, ..., in order."""
    values: list[T] = []
    while (key := f"{name}/step{len(values)}") in table:
        values.append(table[key])
    return values


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centred moving average, [N] -> [N] with N > 0, over up to `window` values; NaNs are left out.

    At the ends the window is shorter on one side.
    """
    half = window // 2
    known, around = np.isfinite(values), np.ones(2 * half + 1)
    total, count = (
        np.convolve(numbers, around)[half : half + len(values)]
        for numbers in (np.where(known, values, 0.0), known)
    )
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
