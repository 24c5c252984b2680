"""errors.log of a run: the tracebacks of the environments' own code."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from metarl.runs.directory import RunDirectory
from metarl.types import EnvFaultError


@contextmanager
def faults_logged(run: RunDirectory) -> Iterator[None]:
    """Keeps an environment's traceback in the run's folder, and says so in the error."""
    try:
        yield
    except EnvFaultError as error:
        if error.trace:
            with open(run.errors, "a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {error}\n{error.trace}\n")
            error.args = (f"{error}\nits traceback is in {run.errors}",)
        raise
