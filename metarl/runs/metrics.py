"""Writes and reads a run's metrics: a line of JSON per iteration, and TensorBoard's files."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from metarl.errors import UserError
from metarl.runs.directory import RunDirectory
from metarl.runs.files import append_bytes, replace_bytes

FIRST = ("iteration", "env_steps", "tasks", "wall_s")
"""Keys that come first in a line; the others follow in natural order (step2 before step10)."""

T = TypeVar("T")
Row = dict[str, float]
"""Metrics of one iteration; NaN where a value was not finite."""


class MetricsLog:
    """Appends to metrics.jsonl and tensorboard/, starting after a checkpoint's iteration."""

    def __init__(self, run: RunDirectory, iteration: int = 0):
        """Removes lines of iterations after `iteration`, which the run will repeat."""
        # Imported here because it is slow and readers of metrics do not need it.
        from metarl.runs.board import Board

        if run.metrics.exists():
            rewind(run.metrics, iteration)
        self._path = run.metrics
        self._board = Board(run.tensorboard, iteration)

    def append(self, row: Mapping[str, float]) -> None:
        """Writes one iteration; `row` has "iteration", its number counted from 1.

        The line is on the disk when this returns, so no checkpoint is ahead of the log.
        """
        append_bytes(self._path, line(row))

    def show(self, row: Mapping[str, float]) -> None:
        """Writes an iteration for TensorBoard."""
        names = sorted(row.keys() - {"iteration"}, key=_natural)
        self._board.append(int(row["iteration"]), {name: float(row[name]) for name in names})

    def close(self) -> None:
        self._board.close()


def line(row: Mapping[str, float]) -> bytes:
    """Returns a row as a line of JSON; null is not finite, and equal rows give equal bytes."""
    names = [name for name in FIRST if name in row]
    names += sorted(row.keys() - set(FIRST), key=_natural)
    return (json.dumps({name: _number(row[name]) for name in names}) + "\n").encode()


def _number(value: float) -> int | float | None:
    if isinstance(value, (int, np.integer)):
        return int(value)
    return float(value) if math.isfinite(value) else None


def _natural(name: str) -> list[tuple[int, str]]:
    """Returns a sort key that orders digits as numbers: step2 before step10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def rewind(path: Path, iteration: int) -> None:
    """Removes the lines after `iteration`, and a half-written last line, in one step."""
    content = path.read_bytes() if path.exists() else b""
    lines = content.splitlines(keepends=True)
    kept = [text for text, row in _parse(path, lines) if row["iteration"] <= iteration]
    if len(kept) != iteration:
        warnings.warn(
            f"{path} has {len(kept)} of the {iteration} lines before the checkpoint", stacklevel=2
        )
    if b"".join(kept) != content:
        replace_bytes(path, b"".join(kept))


def read(path: Path) -> list[Row]:
    """Reads the rows of a metrics.jsonl, even while it is being written.

    Raises:
        UserError: for a line that holds no metrics.
    """
    if not path.exists():
        return []
    return [row for _, row in _parse(path, path.read_bytes().splitlines(keepends=True))]


def _parse(path: Path, lines: Sequence[bytes]) -> list[tuple[bytes, Row]]:
    """Pairs each line with its row; leaves out a last line that lacks its newline."""
    rows = []
    for number, text in enumerate(lines, start=1):
        if not text.endswith(b"\n"):
            break
        try:
            rows.append((text, _row(json.loads(text))))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path}, line {number} holds no metrics: {error!r}") from error
    return rows


def _row(values: dict[str, Any]) -> Row:
    row = {name: math.nan if value is None else value for name, value in values.items()}
    if not all(isinstance(value, (int, float)) for value in row.values()):
        raise TypeError("a value is no number")
    return {**row, "iteration": int(row["iteration"])}


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
