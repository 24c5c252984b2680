"""Which device and how many threads: resolved once, at the door."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from metarl.config.settings import Config, EvaluateOptions
from metarl.errors import UserError
from metarl.types import Workers


def torch_device(name: str) -> torch.device:
    """`auto` is a GPU where torch sees one.

    Raises:
        UserError: for `cuda` where there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device cuda: torch sees no GPU here; use --device cpu, or install a CUDA build"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        # By default cuDNN's recurrent cells, and they alone, round what they multiply to 10 bits
        torch.backends.cudnn.allow_tf32 = False
    return torch.device(name)


def product_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on a processor with instructions for its products, else float32.

    Without them bfloat16 is slow, and a GPU is not kept busy by these products either way.
    """
    if name != "auto":
        return getattr(torch, name)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return torch.float32
    found = torch.cpu.get_capabilities()
    fast = found.get("avx512_bf16", False) or found.get("amx_bf16", False)
    return torch.bfloat16 if fast else torch.float32


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def workers_of(config: Config | EvaluateOptions) -> Workers:
    """Who steps the environments: `auto` is one worker for each core."""
    count = cores() if config.workers == "auto" else int(config.workers)
    return Workers(count, config.worker_timeout)


def torch_sleeps() -> bool:
    """Whether torch's threads soon leave their cores to others when they wait, as `import metarl`
    sees to it unless torch was imported before."""
    return "GOMP_SPINCOUNT" in os.environ


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Runs the block with torch on `count` threads.

    While simulations step, torch's small policy calls take one thread: more of them spin
    between calls, on the cores that the simulation threads need.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
