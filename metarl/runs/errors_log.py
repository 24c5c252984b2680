"""Writes errors.log of a run, the tracebacks from environments' own code."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from shlex import quote

from metarl.errors import EnvFaultError, UserError
from metarl.runs.directory import RunDirectory
from metarl.runs.files import encoded, open_own
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
        return f"`metarl check-env {quote(tasks)}` tests the environment alone"
    try:
        with open(open_own(run.errors, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as file:
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(encoded(printable(f"{now} {error}\n{error.trace}\n")))
    except (OSError, UserError) as failed:  # the environment's fault matters more than this
        why = getattr(failed, "strerror", None) or failed
        return f"its traceback could not be written to {run.errors}: {why}"
    return f"its traceback is in {run.errors}"
