"""Errors of one line where the machine gives no more memory, threads, processes or files."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from metarl.errors import UserError

LIBRARY = re.compile(r"failed to map segment|cannot map zero-fill pages")
"""Messages of the loader of shared libraries."""
NO_MEMORY = re.compile(
    r"an't allocate memory|out of memory|ailed to allocate|Unable to allocate|annot allocate memory"
    r"|array is too (big|large)|[Mm]aximum (allowed|supported) (size|dimension)"
    r"|Storage size calculation overflowed|numel: integer multiplication overflow"
    r"|cannot fit 'int' into|must fit into a C int|too large to convert to C"
    r"|Overflow when unpacking"
)
"""Messages of torch, numpy and Python where an array is larger than the memory or any could be."""
LIMITED = MemoryError, RuntimeError, ValueError, OverflowError, TypeError, OSError, ImportError
"""Exceptions that a limit can cause; ImportError where a shared library finds no memory."""
LOWER = (
    "lower what decides its size: tasks, episodes, --env.horizon, hidden sizes, shots, queries; "
    "or raise the limit, `ulimit -v`"
)


@contextmanager
def within_the_machine() -> Iterator[None]:
    """Turns exceptions that the limits of the machine or of a shell cause into a UserError."""
    try:
        yield
    except UserError:
        raise
    except LIMITED as error:
        if (message := _told(error)) is None:
            raise
        raise UserError(message) from error


def _told(error: BaseException) -> str | None:
    """Returns the message about a limit, or None for another error."""
    text = " ".join(str(error).split())
    if LIBRARY.search(text):
        return f"the memory does not suffice: {text[:160]}\nraise the limit, `ulimit -v`"
    if isinstance(error, OSError):
        return _of_system(error)
    if "can't start new thread" in text:
        return (
            f"no further thread can be started ({text})\n"
            "give --threads 1 and --workers 0, or raise the limit of processes, `ulimit -u`"
        )
    if isinstance(error, MemoryError) or NO_MEMORY.search(text):
        return f"the memory does not suffice: {text[:160] or 'an allocation failed'}\n{LOWER}"
    return None


def _of_system(error: OSError) -> str | None:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return (
            f"no further file can be opened ({error.strerror})\n"
            "raise the limit of open files, `ulimit -n`, or give fewer --workers"
        )
    written = hasattr(error, "characters_written")  # an output that does not wait for its reader
    if error.errno == errno.EAGAIN and error.filename is None and not written:
        return (
            f"no further process can be started ({error.strerror})\n"
            "give fewer --workers, or raise the limit of processes, `ulimit -u`"
        )
    if error.errno == errno.ENOMEM:
        return f"the memory does not suffice: {error.strerror}\n{LOWER}"
    return None


def check_threads(count: int) -> None:
    """Raises a UserError where so many threads cannot be started.

    Libraries end the process where they cannot start one, without an exception.
    """
    done, started = threading.Event(), []
    try:
        for _ in range(count - 1):
            started.append(threading.Thread(target=done.wait, daemon=True))
            started[-1].start()
    except RuntimeError as error:
        raise UserError(
            f"{count} threads cannot be started: {error}\n"
            "give fewer --threads, or raise the limit of processes, `ulimit -u`"
        ) from error
    finally:
        done.set()
        for thread in started:
            if thread.ident is not None:
                thread.join()
