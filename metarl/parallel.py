"""Parts of a computation side by side on threads, with the same bits for any number of threads.

Torch lets go of Python's interpreter lock inside its operations. So parts of a meta-batch run side
by side, each with torch on one thread. A caller divides its work by its shape alone and adds the
results in order: then no sum depends on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")

_granted: list[int] = []
"""Threads that `in_parts` took from torch for `side_by_side`, innermost last."""


def granted() -> int:
    """Returns how many threads `side_by_side` uses, also within a part."""
    return _granted[-1] if _granted else torch.get_num_threads()


@contextmanager
def in_parts() -> Iterator[None]:
    """Runs torch on one thread in the block, and `side_by_side` on as many as torch had before.

    Also a decorator. An operation outside of parts then rounds alike for any number of threads.
    """
    before = torch.get_num_threads()
    _granted.append(max(before, *_granted) if _granted else before)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        _granted.pop()
        torch.set_num_threads(before)


def side_by_side(
    work: Callable[[Part], Result], parts: Sequence[Part], most: int | None = None
) -> list[Result]:
    """Returns `work(part)` of every part, in order, computed on several threads, `most` at most.

    Each part has torch on one thread, and the caller's setting of autograd. A part must not call
    `side_by_side` or `in_parts` itself.
    """
    count = min(granted(), len(parts), most or len(parts))
    grad = torch.is_grad_enabled()

    def one(part: Part) -> Result:
        with torch.set_grad_enabled(grad):
            return work(part)

    with in_parts():
        if count <= 1:
            return [one(part) for part in parts]
        return list(_threads(count).map(one, parts))


def even_slices(rows: int, parts: int) -> list[slice]:
    """Returns neighbouring parts of so many rows, whose sizes differ by one at most."""
    ends = [rows * part // parts for part in range(parts + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "part", initializer=torch.set_num_threads, initargs=(1,))
