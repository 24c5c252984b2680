"""Attacks: a run is killed, stopped by signals, or loses workers, and is continued."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from attacks import events
from attacks.children import in_lanes
from attacks.result import Effort, Result, counted
from attacks.runs import KINDS, fingerprint, iterations_saved, metrics, train

ITERATIONS = 2
MOST_EVENTS = 45
"""More file events than two iterations or a save have."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def kill_at(number: int, now: int, what: str) -> None:
    """Kills this process if it is at file event `number`."""
    del what
    if now == number:
        os.kill(os.getpid(), signal.SIGKILL)


def _whole(kind: str, folder: Path) -> dict[str, Any]:
    """Trains a run undisturbed: its fingerprint, its time and its number of file events."""
    marks = folder / "events"
    run = folder / "run"

    def count() -> None:
        def note(number: int, what: str) -> None:
            del what
            descriptor = os.open(marks, os.O_WRONLY | os.O_CREAT)
            os.pwrite(descriptor, f"{number:9d}".encode(), 0)
            os.close(descriptor)

        events.watch(note, str(run))

    ended = train(kind, run, ITERATIONS, folder / "log", before=count)
    if ended.code:
        raise RuntimeError(f"{kind}: {ended.said}")
    number = int(marks.read_text(encoding="utf-8"))
    return {"hash": fingerprint(run), "seconds": ended.seconds, "events": number}


_undisturbed: dict[str, dict[str, Any]] = {}


def whole_runs(effort: Effort, place: Path) -> dict[str, dict[str, Any]]:
    """Returns what undisturbed runs of all kinds give; they are trained once."""
    kinds = effort.some(list(KINDS), effort.kinds)
    missing = [kind for kind in kinds if kind not in _undisturbed]
    _undisturbed.update(zip(missing, in_lanes(missing, _whole, place / "whole"), strict=True))
    return {kind: _undisturbed[kind] for kind in kinds}


def _continued(case: tuple[str, str, float | int, str], folder: Path) -> str:
    """Kills a run and continues it; returns what went wrong, or nothing."""
    kind, how, when, wanted = case
    run = folder / "run"
    if how == "event":
        arm = partial(events.watch, partial(kill_at, int(when)), str(run))
        first = train(kind, run, ITERATIONS, folder / "log", before=arm)
        if first.code != -signal.SIGKILL:
            return f"{kind} did not reach file event {when}: {first.said[-300:]}"
    else:
        train(kind, run, ITERATIONS, folder / "log", after_s=when)
    second = train(kind, run, ITERATIONS, folder / "log2")
    if second.code:
        return f"{kind} killed at {how} {when}: exit {second.code}: {second.said[-300:]}"
    if fingerprint(run) != wanted:
        return f"{kind} killed at {how} {when}: other bytes"
    return ""


def kills_at_moments(effort: Effort, place: Path) -> Result:
    """kill -9 at random moments."""
    whole, rng = whole_runs(effort, place), random.Random(1)
    cases = [
        (kind, "moment", rng.uniform(0.0, facts["seconds"]), facts["hash"])
        for kind, facts in whole.items()
        for _ in range(effort.moments)
    ]
    return counted(
        "kill -9 at random moments: continued, the same bytes",
        in_lanes(cases, _continued, place / "moments"),
    )


def kills_at_events(effort: Effort, place: Path) -> Result:
    """kill -9 before every file event of two iterations."""
    whole = whole_runs(effort, place)
    cases = [
        (kind, "event", number, facts["hash"])
        for kind, facts in whole.items()
        for number in effort.some(list(range(1, facts["events"] + 1)), effort.events)
    ]
    return counted(
        "kill -9 before every file event of two iterations: continued, the same bytes",
        in_lanes(cases, _continued, place / "events"),
    )


def _signalled(case: tuple[int, int, int], folder: Path) -> str:
    """Sends a second signal at a file event of the final save; "none" where it has fewer events."""
    first, second, number = case
    run, marks = folder / "run", folder / "reached"

    def arm() -> None:
        lines = left = 0

        def act(now: int, what: str) -> None:
            nonlocal lines, left
            del now
            lines += what.endswith("metrics.jsonl") and what.startswith("open")
            if lines == 2 and not left:  # the second iteration is about to be logged
                left = 1
                os.kill(os.getpid(), first)
            elif left:
                left += 1
                if left == number + 1:
                    marks.touch()
                    os.kill(os.getpid(), second)

        events.watch(act, str(run))

    kind = next(iter(KINDS))
    ended = train(kind, run, 50, folder / "log", "--checkpoint-every", "1000", before=arm)
    if not marks.exists():
        return "none"
    lines, saved = len(metrics(run)), iterations_saved(run)
    if ended.code not in (128 + first, 130) or "Traceback" in ended.said:
        return (
            f"signals {first}, {second} at event {number}: exit {ended.code}: {ended.said[-300:]}"
        )
    if not lines or lines != saved:
        return f"signals {first}, {second} at event {number}: {lines} lines, saved {saved}"
    return ""


def signals_in_the_save(effort: Effort, place: Path) -> Result:
    """Two signals: one while an iteration is logged, the other at each event of the final save."""
    pairs = effort.some([(a, b) for a in SIGNALS for b in SIGNALS], effort.pairs)
    numbers = list(range(1, MOST_EVENTS + 1))
    cases = [(a, b, n) for a, b in pairs for n in effort.some(numbers, effort.events)]
    found = in_lanes(cases, _signalled, place / "signals")
    return counted(
        "a second SIGINT, SIGTERM or SIGHUP at every file event of the final save: nothing "
        "complete is lost",
        [each for each in found if each != "none"],
    )


def _one_signal(case: tuple[int, int], folder: Path) -> str:
    """Sends a signal at a file event of a run; "none" where it has fewer events."""
    which, number = case
    run, marks = folder / "run", folder / "reached"

    def act(now: int, what: str) -> None:
        del what
        if now == number:
            marks.touch()
            os.kill(os.getpid(), which)

    kind = next(iter(KINDS))
    arm = partial(events.watch, act, str(run))
    ended = train(kind, run, ITERATIONS, folder / "log", "--checkpoint-every", "1000", before=arm)
    if not marks.exists():
        return "none"
    place = f"signal {which} at event {number}"
    if "Traceback" in ended.said or ended.code not in (0, 128 + which, 130):
        return f"{place}: exit {ended.code}: {ended.said[-300:]}"
    if len(metrics(run)) != iterations_saved(run):
        return f"{place}: {len(metrics(run))} lines, saved {iterations_saved(run)}"
    return ""


def signals_anywhere(effort: Effort, place: Path) -> Result:
    """One signal at every file event of two iterations."""
    cases = [
        (which, number)
        for which in SIGNALS
        for number in effort.some(list(range(1, MOST_EVENTS + 1)), effort.events)
    ]
    found = in_lanes(cases, _one_signal, place / "signal")
    return counted(
        "one signal at every file event of a run: every logged iteration is saved",
        [each for each in found if each != "none"],
    )


def _worker_lost(case: tuple[int, str, int], folder: Path) -> str:
    which, wanted, number = case
    run = folder / "run"
    rng = random.Random(number)
    kind = "maml-trpo, worker"
    more = ("--workers", "2", "--worker-timeout", "4")
    if not which:
        ended = train(kind, run, 20, folder / "log", *more)
        return fingerprint(run) if not ended.code else f"failed: {ended.said[-300:]}"
    hit: list[int] = []

    def strike(parent: int) -> None:
        children = Path(f"/proc/{parent}/task/{parent}/children")
        deadline = time.monotonic() + 60
        while len(metrics(run)) < 1 + number % 8 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))
        workers = [int(pid) for pid in children.read_text(encoding="utf-8").split()]
        workers = [pid for pid in workers if b"spawn_main" in _command(pid)]
        if workers:
            hit.append(rng.choice(workers))
            os.kill(hit[0], which)

    def arm() -> None:
        parent = os.getpid()
        threading.Thread(target=strike, args=(parent,), daemon=True).start()

    ended = train(kind, run, 20, folder / "log", *more, before=arm)
    if ended.code or "replac" not in ended.said:
        return f"worker given signal {which}: exit {ended.code}: {ended.said[-300:]}"
    return "" if fingerprint(run) == wanted else f"worker given signal {which}: other bytes"


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def lost_workers(effort: Effort, place: Path) -> Result:
    """Workers that are killed, or stopped so that they hang."""
    (wanted,) = in_lanes([(0, "", 0)], _worker_lost, place / "workers0")
    cases = [
        (signal.SIGKILL if number % 2 else signal.SIGSTOP, wanted, number)
        for number in range(effort.workers)
    ]
    return counted(
        "workers killed or stopped: replaced, the same bytes",
        in_lanes(cases, _worker_lost, place / "workers"),
    )
