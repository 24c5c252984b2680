"""The script that started the workers: they import it, since their environments may need it.

A script without `if __name__ == "__main__":` would train once more in every worker. Such a worker
ends at once with the exit code UNGUARDED, so that its parent can say why.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Iterator

WORKER = "metarl worker"
"""How the name of a worker process begins."""
UNGUARDED = 113
"""Exit code of a worker whose import of the script began to train."""


def end_if_importing() -> None:
    """Ends this process if it is a worker that still imports the script."""
    process = multiprocessing.current_process()
    if getattr(process, "_inheriting", False) and process.name.startswith(WORKER):
        os._exit(UNGUARDED)


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """Hides a script that is no file, such as `python - < script.py`, from processes that start.

    Its classes and functions reach the workers by value.
    """
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None or os.path.isfile(file):
        yield
        return
    del main.__file__
    try:
        yield
    finally:
        main.__file__ = file


def advice(how: str) -> str:
    """Returns what to do about a worker that was lost at its start, `how` it was lost."""
    script = getattr(sys.modules["__main__"], "__file__", None) or "your code"
    if how.endswith(f" {UNGUARDED}"):
        return (
            f": it imports {script}, which starts workers when it is imported\n"
            "put that under `if __name__ == '__main__':`, or use no workers: --workers 0, "
            "Workers(0)"
        )
    if how.startswith("exited"):
        return (
            f" when it imported {script}; its own error is above\n"
            "mend it, put it under `if __name__ == '__main__':`, or use no workers: --workers 0, "
            "Workers(0)"
        )
    return " when it started"
