"""Attacks: a full disk, sockets, memory of a long run, other numbers of cores and workers."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

from attacks import events
from attacks.children import call, in_lanes
from attacks.result import Effort, Result, counted
from attacks.runs import KINDS, fingerprint, flags, train

EVALUATION = "--tasks 2 --steps 1 --threads 1".split()
NETWORK = {
    "socket.__new__", "socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname",
    "urllib.Request",
}  # fmt: skip
"""Audit events of who uses a network."""
WARM = 50
"""Iterations in which a run fills its caches."""
LEAST_KB, MOST_KB = 4, 200
"""Sizes of the disk; the run needs about as much as the larger."""


def full_disk(effort: Effort, place: Path) -> Result:
    """A run on a small file system, which is continued on a larger one."""
    promise = "the disk full: exit 2 and the file's name; after space is made, the same bytes"
    if not _may_mount(place):
        return Result(promise, 0, figure="not tried: it takes the right to mount a file system")
    (wanted,) = in_lanes([0], _on_disk, place / "whole")
    sizes = [
        LEAST_KB + (MOST_KB - LEAST_KB) * i // max(effort.disks - 1, 1) for i in range(effort.disks)
    ]
    answers = in_lanes(sizes, partial(_on_disk, wanted=wanted["hash"]), place / "disks")
    full = sum(each["full"] for each in answers if each)
    faults = [each and each["fault"] for each in answers]
    return counted(promise, faults, f"{full} sizes were too small")


def _may_mount(place: Path) -> bool:
    """Returns whether this user may mount a file system; in a container not even root may."""
    disk = place / "try"
    disk.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    subprocess.run(["umount", "-l", str(disk)], check=False)
    return True


def _on_disk(size_kb: int, folder: Path, wanted: str = "") -> dict[str, object]:
    """Trains on a disk of a size, then on a larger one; 0 is large at once."""
    kind, disk = next(iter(KINDS)), folder / "disk"
    disk.mkdir()
    options = f"size={size_kb or 65536}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True)
    run, fault = disk / "run", ""
    try:
        first = train(kind, run, 3, folder / "log")
        if first.code not in (0, 2) or "Traceback" in first.said:
            fault = f"{size_kb} kB: exit {first.code}: {first.said[-300:]}"
        elif first.code and ("No space left" not in first.said or str(disk) not in first.said):
            fault = f"{size_kb} kB: does not name the file: {first.said[-300:]}"
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        second = train(kind, run, 3, folder / "log2")
        found = fingerprint(run)
        if second.code:
            fault = fault or f"{size_kb} kB, then more: exit {second.code}: {second.said[-300:]}"
        elif wanted and found != wanted:
            fault = fault or f"{size_kb} kB, then more: other bytes"
    finally:
        subprocess.run(["umount", "-l", disk], check=False)
    return {"hash": found, "full": bool(first.code), "fault": fault}


def sockets(effort: Effort, place: Path) -> Result:
    """Sockets of the internet that training, evaluation and the report open."""
    kinds = effort.some(list(KINDS), effort.kinds and 1)
    answers = in_lanes(kinds, _sockets, place)
    return counted(
        "train, evaluate, report and doctor open no socket of a network",
        [x for each in answers for x in each or [None]],
    )


def _sockets(kind: str, folder: Path) -> list[str]:
    marks, run = folder / "sockets", folder / "run"

    def arm() -> None:
        def hook(name: str, arguments: tuple[object, ...]) -> None:
            # -1: an object for a descriptor that is there, such as one of a pair of pipes.
            between_processes = name == "socket.__new__" and arguments[1] in (socket.AF_UNIX, -1)
            if name in NETWORK and not between_processes:
                with open(marks, "a", encoding="utf-8") as file:
                    file.write(f"{name} {arguments[1:]}\n")

        sys.addaudithook(hook)

    found = []
    commands = {
        "train": flags(kind, run, 2),
        "evaluate": [run, *EVALUATION],
        "report": [run],
        "doctor": [run],
    }
    for door, argv in commands.items():
        ended = call(door, argv, folder / "log", before=arm)
        opened = marks.read_text(encoding="utf-8") if marks.exists() else ""
        fault = f"exit {ended.code}: {ended.said[-300:]}" if ended.code else opened
        found.append(f"{kind}: {door}: {fault}" if fault else "")
        marks.unlink(missing_ok=True)
    return found


def cores(effort: Effort, place: Path) -> Result:
    """Trains each run with several numbers of threads, workers and cores."""
    kinds = effort.some(list(KINDS), effort.kinds)
    ways = [
        ("1", "0", 0),
        ("1", "0", 1),
        ("2", "0", 0),
        ("3", "1", 0),
        ("4", "2", 0),
        ("2", "3", 1),
    ]
    ways = ways[: 3 if effort.kinds else None]
    cases = [(kind, *way) for kind in kinds for way in ways]
    hashes = in_lanes(cases, _on_cores, place)
    answers = []
    for i, (kind, *way) in enumerate(cases):
        first = hashes[i - i % len(ways)]
        same = hashes[i] == first or hashes[i] is None
        answers.append("" if same else f"{kind}: threads, workers, one core: {way}")
    return counted(
        "one core, several cores, any number of threads and workers: the same bytes", answers
    )


def _on_cores(case: tuple[str, str, str, int], folder: Path) -> str:
    kind, threads, workers, alone = case
    more = ["--threads", threads]
    if "--workers" in KINDS[kind]:
        more += ["--workers", workers]

    def arm() -> None:
        if alone:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    ended = train(kind, folder / "run", 3, folder / "log", *more, before=arm)
    return fingerprint(folder / "run") if not ended.code else f"exit {ended.code}: {ended.said}"


def long_run(effort: Effort, place: Path) -> Result:
    """Memory of a run of many iterations."""
    kinds = [next(iter(KINDS)), "maml on sinusoids"]
    found = in_lanes(kinds, partial(_memory, effort.iterations), place)
    faults = [
        f"{kind}: from {early} to {late} kB" if late > 1.05 * early else ""
        for kind, (early, late) in zip(kinds, found, strict=True)
    ]
    growth = max(late / early for early, late in found) - 1
    return counted(
        f"memory of {effort.iterations:,} iterations: within 5% of that after the first "
        f"{max(effort.iterations // 10, WARM)}",
        faults,
        f"{growth:+.1%} at most",
    )


def _memory(iterations: int, kind: str, folder: Path) -> tuple[int, int]:
    run, marks = folder / "run", folder / "memory"

    def arm() -> None:
        lines = 0

        def act(number: int, what: str) -> None:
            nonlocal lines
            del number
            if what.startswith("open") and what.endswith("metrics.jsonl"):
                lines += 1
                if lines in (max(iterations // 10, WARM), iterations):
                    with open(marks, "a", encoding="utf-8") as file:
                        file.write(f"{_resident_kb()}\n")

        events.watch(act, str(run))

    more = ("--checkpoint-every", "50")
    ended = train(kind, run, iterations, folder / "log", *more, before=arm, longest=1200)
    if ended.code:
        raise RuntimeError(ended.said[-1000:])
    early, late = map(int, marks.read_text(encoding="utf-8").split())
    return early, late


def _resident_kb() -> int:
    """Returns the resident memory of this process, after freed blocks are given back."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    text = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8")
    lines = [line.split() for line in text.splitlines()]
    return next(int(words[1]) for words in lines if words[0] == "Rss:")
