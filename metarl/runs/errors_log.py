"""errors.log of a run: the tracebacks of the environments' own code."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from metarl.errors import EnvFaultError
from metarl.runs.directory import RunDirectory


@contextmanager
def faults_logged(run: RunDirectory, tasks: str) -> Iterator[None]:
    """Keeps an environment's traceback in the run's folder, and says so in the error; `tasks` is
    what the command line calls them."""
    try:
        yield
    except EnvFaultError as error:
        error.args = (f"{error}\n{_where_to_look(run, error, tasks)}",)
        raise


def _where_to_look(run: RunDirectory, error: EnvFaultError, tasks: str) -> str:
    if not error.trace:
        return f"`python -m metarl.check_env {tasks}` plays it alone"
    try:
        with open(run.errors, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {error}\n{error.trace}\n")
    except OSError as failed:  # the fault itself is the news
        return f"its traceback could not be written to {run.errors}: {failed.strerror}"
    return f"its traceback is in {run.errors}"
