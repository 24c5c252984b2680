"""Trains the seeds of one experiment side by side: each is a process and an ordinary run.

A process is `metarl train` with one seed, so a run's files are those of the same seed trained
alone. The processes share the cores; seeds beyond that wait for their turn. Ctrl-C ends all, each
with its last iteration saved, and the failure of one leaves the others alone. If this process is
killed, its seeds find their output closed at their next line, and end with that iteration saved.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from metarl import threads
from metarl.config.settings import AnyConfig, Config
from metarl.errors import UserError
from metarl.loop.seed_lines import Board, Said
from metarl.runs.seeds import seed_folder
from metarl.signals import held

GRACE = 1.0
"""Time in which seeds end by themselves where Ctrl-C in a terminal reaches them too, s."""
LATE = 5.0
"""Time for the last lines of a process that has ended, s."""


class SeedsFailedError(UserError):
    """Some seeds failed; the exit code is that of the first of them."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class Share(NamedTuple):
    """Use of the machine by seeds that are trained side by side."""

    together: int
    """Seeds at a time."""
    threads: int
    """Threads of each seed, if nothing else says it; 0 leaves it to --threads."""


def share(config: AnyConfig, seeds: int) -> Share:
    """Returns how many seeds are trained at a time, and with how many threads each.

    A number of --threads, --workers or in OMP_NUM_THREADS is that of each seed. A team of Ray's
    actors serves one seed at a time.
    """
    cores = threads.cores().count
    if isinstance(config, Config) and config.sampler == "ray":
        return Share(1, 0)
    asked = config.threads != "auto" or bool(os.environ.get(threads.VARIABLE, "").strip())
    needed = threads.threads(config.threads).count if asked else 1
    if isinstance(config, Config) and config.workers != "auto":
        needed = max(needed, config.workers)
    together = max(1, min(seeds, cores // needed))
    return Share(together, 0 if asked else max(1, cores // together))


class Job:
    """One seed: its process, and how far it is."""

    def __init__(self, seed: int, command: Sequence[str]):
        self.seed, self.command = seed, list(command)
        self.said = Said()
        self.process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @property
    def name(self) -> str:
        return f"seed{self.seed}"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def code(self) -> int | None:
        """Exit code of the process; None before its end."""
        return None if self.process is None else self.process.poll()

    def start(self, lines: SimpleQueue[tuple[Job, str]], environment: dict[str, str]) -> None:
        """Starts the process; its lines go to `lines`."""
        self.said.begun = True
        self.process = process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
            env=environment,
        )

        def read() -> None:
            assert process.stdout is not None
            with process.stdout as printed:
                for line in printed:
                    lines.put((self, line.rstrip("\n")))

        self._reader = threading.Thread(target=read, daemon=True)
        self._reader.start()

    def all_lines_read(self) -> None:
        """Waits for the last lines of a process that has ended."""
        if self._reader is not None:
            self._reader.join(LATE)


def train_seeds(
    config: AnyConfig,
    root: Path,
    seeds: Sequence[int],
    flags: Sequence[str],
    told: Sequence[str] = (),
) -> None:
    """Trains, or continues, a run of each seed in `root`; shows how far all are.

    Args:
        config: the settings that they share.
        flags: words of the command line that give these settings.
        told: lines that were said for all seeds, and are not repeated for each.

    Raises:
        SeedsFailedError: if some failed, after the end of the others.
    """
    use = share(config, len(seeds))
    command = [sys.executable, "-m", "metarl", "train", *flags]
    jobs = [
        Job(seed, [*command, "--seed", str(seed), "--run-dir", str(seed_folder(root, seed))])
        for seed in seeds
    ]
    board = Board(root, config.iterations, {job.name: job.said for job in jobs}, told)
    board.note(_heading(config, root, use, len(seeds)))
    try:
        with board:
            _run(jobs, use, board)
    except KeyboardInterrupt:
        with held("the seeds save their last iterations"):
            _stop(jobs)
            raise
    _tell_failures(jobs, root)


def _heading(config: AnyConfig, root: Path, use: Share, count: int) -> str:
    each = f" with {use.threads} thread{'s' * (use.threads > 1)} each" if use.threads else ""
    return (
        f"{count} seeds of {config.agent.name} on {config.env.name}, {use.together} at a time"
        f"{each}, kept in {root}"
    )


def _run(jobs: Sequence[Job], use: Share, board: Board) -> None:
    """Runs all processes, `use.together` at a time."""
    lines: SimpleQueue[tuple[Job, str]] = SimpleQueue()
    environment = {**os.environ, "TERM": "dumb"}  # plain lines, also where colours are forced
    if use.threads:
        environment[threads.VARIABLE] = str(use.threads)
    waiting, running = list(jobs), list[Job]()
    while waiting or running:
        while waiting and len(running) < use.together:
            running.append(waiting.pop(0))
            running[-1].start(lines, environment)
        ended = [job for job in running if not job.running]
        for job in ended:
            job.all_lines_read()
            running.remove(job)
        try:
            board.line(*_named(lines.get(timeout=0.0 if ended else 0.5)))
            while True:
                board.line(*_named(lines.get_nowait()))
        except Empty:
            pass
        for job in ended:
            board.ended(job.name, job.code or 0)
        board.refresh()


def _named(said: tuple[Job, str]) -> tuple[str, str]:
    return said[0].name, said[1]


def _stop(jobs: Sequence[Job]) -> None:
    """Ends all processes and waits for them: each saves its last iteration."""
    deadline = time.monotonic() + GRACE
    while any(job.running for job in jobs) and time.monotonic() < deadline:
        time.sleep(0.02)
    for job in jobs:
        if job.running and job.process is not None:
            job.process.send_signal(signal.SIGTERM)
    for job in jobs:
        if job.process is not None:
            job.process.wait()


def _tell_failures(jobs: Sequence[Job], root: Path) -> None:
    """Raises a SeedsFailedError if the processes of some seeds failed."""
    failed = [job for job in jobs if job.code]
    if not failed:
        return
    named = ", ".join(f"{job.name} ({_end(job.code or 0)})" for job in failed[:8])
    more = f" and {len(failed) - 8} more" if len(failed) > 8 else ""
    first = failed[0]
    why = f"{first.name}: {first.said.error}\n" if first.said.error else ""
    code = first.code or 1
    raise SeedsFailedError(
        f"{len(failed)} of {len(jobs)} seeds in {root} failed: {named}{more}\n{why}"
        "the same command again continues them, and leaves those that are done",
        code if code > 0 else 1,
    )


def _end(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"killed by signal {-code}"
