"""Writes errors.log of a run, the tracebacks from environments' own code."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from shlex import quote

from metarl.errors import EnvFaultError
from metarl.runs.directory import RunDirectory
from metarl.text import printable


@contextmanager
def faults_logged(run: RunDirectory, tasks: str) -> Iterator[None]:
    """Logs an environment's traceback in the run's folder and names the file in the error; `tasks`
    is the argument that check_env takes."""
    try:
        yield
    except EnvFaultError as error:
        error.args = (f"{error}\n{_where_to_look(run, error, tasks)}",)
        raise


def _where_to_look(run: RunDirectory, error: EnvFaultError, tasks: str) -> str:
    if not error.trace:
        return f"`python -m metarl.check_env {quote(tasks)}` tests the environment alone"
    try:
        text = printable(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {error}\n{error.trace}\n")
        with open(run.errors, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as failed:  # the environment's fault matters more than this
        return f"its traceback could not be written to {run.errors}: {failed.strerror}"
    return f"its traceback is in {run.errors}"
