"""Memory that a process and the workers that it spawns share; it has no name in a file system."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import weakref
from multiprocessing.heap import Arena
from typing import Any

from metarl.sampling.record import Record
from metarl.types import EnvSpec


def shared_memory(size: int) -> Any:
    """Returns a buffer of `size` bytes that spawned processes share."""
    return multiprocessing.get_context("spawn").RawArray(ctypes.c_byte, size)


def _arena(size: int) -> Arena:
    """Returns memory that spawned processes share. Linux gives it without a file system, whose
    limit (64 MB of /dev/shm in many containers) would end a process that fills the file."""
    if not hasattr(os, "memfd_create"):
        return Arena(size)
    descriptor = os.memfd_create("metarl")
    os.ftruncate(descriptor, size)
    arena = Arena(size, descriptor)
    weakref.finalize(arena, os.close, descriptor)
    return arena


class SharedRecord:
    """A record in a file without a name, which takes memory as far as it is written to."""

    def __init__(self, spec: EnvSpec, episodes: int, output_dim: int):
        self._shape = spec, episodes, output_dim
        self._arena = _arena(max(1, Record.bytes_for(*self._shape)))

    def open(self) -> Record:
        """Returns the arrays, in this process or one that got the record when it was spawned."""
        return Record.in_memory(*self._shape, self._arena.buffer)
