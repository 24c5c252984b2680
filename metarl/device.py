"""Choice of torch's device, precision and threads."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from threadpoolctl import threadpool_limits

from metarl.config.options import EvaluateOptions
from metarl.config.settings import Config
from metarl.errors import UserError
from metarl.limits import check_threads
from metarl.threads import Threads, cores, threads, worker_count
from metarl.types import Cluster, Workers


def torch_device(name: str) -> torch.device:
    """Returns the device called `name`; `auto` is a GPU if torch sees one.

    Raises:
        UserError: for `cuda` without a GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device cuda: torch sees no GPU here; use --device cpu, or install a CUDA build"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        # By default cuDNN's recurrent cells, unlike other layers, round their inputs to 10 bits.
        torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)


WORKERS_PER_CORE = 64
"""Worker processes for each core that are taken for a mistake; one for each is the fastest."""


def workers_of(config: Config | EvaluateOptions) -> Workers:
    """Returns the settings of the worker processes or of Ray's actors.

    Raises:
        UserError: for settings of the ones while the others play.
    """
    if config.sampler == "ray":
        if config.workers != "auto":
            raise UserError(
                f"--workers {config.workers} has no effect with --sampler ray, whose actors play; "
                "give --actors, and --workers auto"
            )
        actors = 0 if config.actors == "auto" else config.actors
        cluster = Cluster(config.ray_address, actors)
    else:
        for flag, value, usual in (
            ("--ray-address", config.ray_address, ""),
            ("--actors", config.actors, "auto"),
        ):
            if value != usual:
                raise UserError(f"{flag} {value} has no effect without --sampler ray")
        cluster = None
    count = worker_count(config.workers, config.threads)
    most = WORKERS_PER_CORE * (here := cores().count)
    if config.workers != "auto" and count > most:
        raise UserError(f"--workers is {count} on {here} cores; give at most {most}, or auto")
    return Workers(count, config.worker_timeout, cluster=cluster)


def use_threads(asked: int | Literal["auto"]) -> Threads:
    """Gives torch and the libraries of linear algebra their threads; see `metarl/threads.py`."""
    found = threads(asked)
    check_threads(found.count)
    threadpool_limits(found.count, user_api="blas")
    torch.set_num_threads(found.count)
    keep_freed_memory()
    return found


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt."""
LARGE = 32 << 20
"""Bytes, the most that glibc takes as M_MMAP_THRESHOLD."""


def keep_freed_memory() -> None:
    """Lets this process keep the memory of freed tensors for later ones, where the C library can.

    By default glibc returns large blocks to the system. Each new tensor then begins with page
    faults, for which the threads of a process wait for each other.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Lets a GPU multiply float32 matrices in the block with factors of 10 bits, if `allowed`."""
    if not torch.cuda.is_available():
        yield
        return
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, allowed
    try:
        yield
    finally:
        matmul.allow_tf32 = before


def torch_sleeps() -> bool:
    """Whether torch's idle threads soon stop spinning and free their cores. `import metarl` sets
    this, unless torch was imported before."""
    return "GOMP_SPINCOUNT" in os.environ


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Runs the block with torch on `count` threads.

    While simulations step, the policy's small calls should use one thread: more threads would
    spin between calls on the cores that the simulations need.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
