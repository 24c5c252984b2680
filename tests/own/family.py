"""The processes that a pool starts."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil


def workers_alive() -> list[psutil.Process]:
    """This process's workers."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def left_in_shared_memory(*pids: int) -> list[Path]:
    """Files in /dev/shm that these processes made by multiprocessing."""
    return [path for pid in pids for path in Path("/dev/shm").glob(f"*[-_]{pid}[-_]*")]
