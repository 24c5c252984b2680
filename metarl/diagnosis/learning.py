"""Checks of metrics.jsonl: whether it is whole, and whether anything was learned."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from metarl import found
from metarl.diagnosis.finding import FAULT, NOTE, OK, Finding, command, summed
from metarl.loop.stalls import PATIENCE, RULES, Facts
from metarl.runs import metrics
from metarl.runs.directory import RunDirectory

LAST = 20
"""Iterations at the end that are looked at for a run that stopped learning."""
NONE = Facts()


class Log(NamedTuple):
    """Counts of a log's lines."""

    lines: int
    last: int
    """Iteration of the last line."""
    gaps: int
    """Iterations that have no line before the last one."""
    half: bool
    """Whether the last line lacks its end."""
    skipped: float
    not_finite: Counter[str]
    """Lines in which a value was not finite, by its name."""
    stalls: Counter[str]
    """Iterations that learned nothing, by what they look like."""
    ending: Counter[str]
    """Kinds of stall among the last iterations, counted likewise."""
    said: dict[str, str]
    """The likely cause of each."""


def log(run: RunDirectory) -> Log:
    """Reads a run's metrics; raises a UserError for a line that holds none."""
    lines = last = 0
    skipped, not_finite, stalls, said = 0.0, Counter(), Counter(), {}
    recent: list[str] = []
    if run.metrics.exists():
        for row in metrics.each(run.metrics):
            lines, last = lines + 1, int(row["iteration"])
            skipped += min(1.0, row.get("skipped", 0.0))
            not_finite.update(name for name, value in row.items() if not math.isfinite(value))
            name, why = _stall({"skipped": 0.0, **row})
            stalls.update([name] if name else [])
            said |= {name: why}
            recent = [*recent[-LAST + 1 :], name]
    ending = Counter(name for name in recent if name)
    return Log(lines, last, last - lines, _is_half(run), skipped, not_finite, stalls, ending, said)


def _stall(row: metrics.Row) -> tuple[str, str]:
    for rule in RULES:
        if row["skipped"] != 1.0 and (why := rule.says(row, NONE)):
            return rule.name, why
    return "", ""


def _is_half(run: RunDirectory) -> bool:
    if not run.metrics.exists():
        return False
    with found.opened(run.metrics) as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def written(run: RunDirectory, log: Log, newest: int) -> Iterator[Finding]:
    """Yields whether the log is whole; `newest` is the newest intact checkpoint's iteration."""
    text = f"{log.lines} iterations, one line each"
    yield from summed("metrics", text, _written(run, log, newest))


def _written(run: RunDirectory, log: Log, newest: int) -> Iterator[Finding]:
    again = command("train", "--config", run.config)
    if log.gaps:
        text = f"{log.gaps} of the lines up to iteration {log.last} are missing"
        yield Finding(FAULT, "metrics", text, "put back the file, if there is a copy; the weights "
                      "do not depend on it")  # fmt: skip
    if log.half:
        yield Finding(NOTE, "metrics", "the last line is half written", f"{again} removes it")
    if log.last > newest > 0:  # without a checkpoint, that is the fault
        text = f"iterations {newest + 1} to {log.last} are in no intact checkpoint"
        yield Finding(NOTE, "metrics", text, f"{again} repeats them")
    if log.last < newest:
        text = f"iterations {log.last + 1} to {newest} of the newest checkpoint have no line"
        yield Finding(FAULT, "metrics", text, "put back the file, if there is a copy; the weights "
                      "do not depend on it")  # fmt: skip


def learned(log: Log) -> Iterator[Finding]:
    """Yields what speaks against the run having learned."""
    yield from summed("learning", "no sign that it stalled", _learned(log))


def _learned(log: Log) -> Iterator[Finding]:
    if log.skipped:
        share = log.skipped / log.lines
        text = f"{share:.1%} of the updates were skipped, as a loss, gradient or KL was not finite"
        mark = FAULT if share > 0.5 else NOTE
        yield Finding(mark, "learning", text, "lower --agent.inner.lr, or scale the rewards")
    if log.not_finite:
        names = ", ".join(f"{name} ({n})" for name, n in log.not_finite.most_common(3))
        yield Finding(NOTE, "learning", f"values that are not finite: {names}")
    for name, count in log.stalls.most_common():
        if count == log.lines >= PATIENCE or log.ending[name] >= min(LAST, log.lines) > PATIENCE:
            mark = FAULT
        elif count >= PATIENCE and count > 0.1 * log.lines:
            mark = NOTE
        else:
            continue
        yield Finding(mark, "learning", f"{count} of {log.lines} iterations {name}", log.said[name])


def progress(log: Log, iterations: int) -> Finding:
    """Returns how far the run is."""
    return Finding(OK, "progress", f"{log.last} of {iterations} iterations")
