"""The number of threads, by one rule for torch, simulations and `--workers auto`.

It is `--threads`, else the variable OMP_NUM_THREADS, else the cores that this process may use:
those that it may run on, or fewer where a container has a CPU quota.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from metarl.config.ranges import MOST_THREADS
from metarl.errors import UserError

VARIABLE = "OMP_NUM_THREADS"


class Threads(NamedTuple):
    """A number of threads, and where it is from."""

    count: int
    source: str

    def __str__(self) -> str:
        return f"{self.count} torch thread{'s' if self.count > 1 else ''} ({self.source})"


def threads(asked: int | Literal["auto"]) -> Threads:
    """Returns the number by the rule above; `asked` is `--threads`.

    Raises:
        UserError: if OMP_NUM_THREADS is no number of threads.
    """
    if asked != "auto":
        return Threads(asked, "--threads")
    if not (text := os.environ.get(VARIABLE, "").strip()):
        return cores()
    first = text.partition(",")[0].strip()  # the others of "4,2" are for nested regions
    if first.isdecimal() and 1 <= int(first) <= MOST_THREADS:
        return Threads(int(first), VARIABLE)
    raise UserError(
        f"{VARIABLE} is {text!r}; it must be a whole number from 1 to {MOST_THREADS}: "
        "correct or unset it, or give --threads"
    )


def worker_count(workers: int | Literal["auto"], asked: int | Literal["auto"]) -> int:
    """Returns the number of worker processes; `auto` is as many as there are threads."""
    return threads(asked).count if workers == "auto" else workers


def cores(root: Path = Path("/")) -> Threads:
    """Returns the cores that this process may use, a quota rounded up; /proc is under `root`."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = min(_quotas(root), default=math.inf)
    if quota >= count:
        return Threads(count, "one for each core")
    return Threads(math.ceil(quota), f"CPU quota of {quota:g} cores")


def _quotas(root: Path) -> Iterator[float]:
    """Yields the CPU quotas, in cores, of this process's cgroup and of those above it.

    Version 2 has one tree without a name, version 1 a tree `cpu`. A container may see its place in
    the host's tree, which does not exist there; its parents do. Bad contents are ignored.
    """
    with suppress(OSError, ValueError):
        own = (root / "proc/self/cgroup").read_text(encoding="utf-8")
        for name, place in re.findall(r"^\d+:(|cpu|.*,cpu|cpu,.*|.*,cpu,.*):/(.*)$", own, re.M):
            tree = root / "sys/fs/cgroup" / ("cpu" if name else "")
            folders = [tree / place, *(tree / place).parents][: len(Path(place).parts) + 1]
            for folder in folders:
                for files in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
                    with suppress(OSError, ValueError, ZeroDivisionError):
                        texts = [(folder / file).read_text(encoding="utf-8") for file in files]
                        quota, period = map(int, " ".join(texts).split())
                        if quota / period > 0:
                            yield quota / period
