"""A worker process, which plays its rows of the shared arrays on command.

Processes are spawned, not forked, because a fork copies locks that the parent's threads hold. The
shared memory has no name: the kernel frees it when the last process that maps it ends. Each worker
leads a process group of its own, so that processes that its environments start end with it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing import connection, resource_tracker
from typing import Any

import numpy as np
from gymnasium.vector.utils import CloudpickleWrapper

from metarl.acting.units import Units
from metarl.errors import UserError
from metarl.sampling import main_script
from metarl.sampling.play import Round, play
from metarl.sampling.record import Record
from metarl.sampling.rows import ROUND, Plan, RowError, Rows, Share, ShareFactory, faults_of
from metarl.sampling.shared_memory import SharedRecord
from metarl.signals import ENDING, held
from metarl.types import Workers

START = "start"
INTERRUPTED = "was interrupted"
"""Reason of a loss where Ctrl-C stopped an exchange, so that answers can't be matched any more."""
MESSAGE = 0xFF
"""Byte that announces a pickled message. Any other byte sent to a worker is the part to step, and
any other byte in an answer means success. Steps are frequent, and a pickle costs 10 us."""
WATCH_S = 1.0
"""Seconds between two checks, while an answer is awaited, that the worker still moves."""
ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Variables that limit numerical libraries to one thread; there is already a worker a core."""

_spawn = multiprocessing.get_context("spawn")


class WorkerLostError(Exception):
    """A worker died or hangs, as the message says."""


def portable(factory: ShareFactory) -> CloudpickleWrapper:
    """Wraps the factory for pickling by value, with functions of a script or a notebook.

    Raises:
        UserError: if it holds an object that cannot be pickled.
    """
    wrapped = CloudpickleWrapper(factory)  # pyright: ignore[reportArgumentType]
    try:
        wrapped.__getstate__()
    except Exception as error:
        raise UserError(
            f"this environment cannot be sent to worker processes: {error}\n"
            "create that object in the environment's constructor, or use no workers: --workers 0"
        ) from error
    return wrapped


class Worker:
    """The parent's end of one worker process; answers come in the order of the commands."""

    def __init__(
        self,
        factory: CloudpickleWrapper,
        plan: Plan,
        memory: Any,
        index: int,
        share: Sequence[slice],
        workers: Workers,
        record: SharedRecord | None = None,
    ):
        """Starts worker `index`, which plays the rows `share` of each part in `memory`; whole
        rounds are written to `record`."""
        main_script.end_if_importing()
        self._pulse = Rows.in_memory(plan, workers.count, memory).pulse[index]
        self._timeout_s = workers.timeout_s
        self.waiting: deque[Any] = deque()
        """Labels of the commands without an answer so far."""
        self._connection, theirs = _spawn.Pipe()
        self.process = _spawn.Process(
            target=_serve,
            args=(theirs, plan, memory, workers.count, index, share, record),
            daemon=True,
            name=f"{main_script.WORKER} {index}",
        )
        with _one_thread(), _undisturbed(), main_script.importable():
            self.process.start()
        # When Python ends it would await a process that SIGTERM does not end.
        ended: Any = self.process._popen  # pyright: ignore[reportAttributeAccessIssue]
        ended.terminate = ended.kill
        theirs.close()  # or reading here would not end when the worker dies
        self._lost = ""
        """Reason why the worker is lost, if known before an answer is awaited."""
        self._bell = self._connection.fileno()
        self._give_up_after(socket.SO_SNDTIMEO, workers.timeout_s)
        self._watch_s = min(WATCH_S, workers.timeout_s)
        self._give_up_after(socket.SO_RCVTIMEO, self._watch_s)
        self.send(START, "load", factory)

    def send(self, label: Any, command: str, *arguments: Any) -> None:
        """Sends the worker a command; `finish(label)` awaits its answer."""
        self.waiting.append(label)
        # If the worker is lost, `finish` raises and says why.
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                os.write(self._bell, bytes([MESSAGE]))
                self._connection.send((command, *arguments))
        except BlockingIOError:
            self._lost = f"took no message for {self._timeout_s:g} s"
        except KeyboardInterrupt:
            self._lost = INTERRUPTED  # perhaps within a message
            raise

    def step(self, part: int) -> None:
        """Sends the worker the command to step a part; `finish(part)` awaits its answer."""
        self.waiting.append(part)
        try:  # noqa: SIM105  a context manager is slower, and this runs at every step
            os.write(self._bell, bytes([part]))
        except (BrokenPipeError, ConnectionResetError):
            pass

    def finish(self, label: Any) -> None:
        """Awaits the answers to all commands up to the last `label`.

        Raises:
            RowError: for a fault of an environment.
            WorkerLostError: if the worker died or hangs.
        """
        while label in self.waiting:
            if self._lost:
                raise WorkerLostError(self._lost)
            try:
                answer = self._answer()
                self.waiting.popleft()
            except KeyboardInterrupt:
                self._lost = INTERRUPTED
                raise
            if answer is not None:
                raise answer

    def _answer(self) -> RowError | None:
        try:
            byte = self._byte()
            if byte and byte[0] == MESSAGE:
                self._give_up_after(socket.SO_RCVTIMEO, 0.0)  # the message is already being sent
                answer = self._connection.recv()
                self._give_up_after(socket.SO_RCVTIMEO, self._watch_s)
                return answer
        except (EOFError, OSError):
            byte = b""
        if not byte:
            raise WorkerLostError(self._how_it_died())
        return None

    def _byte(self) -> bytes:
        """Awaits a byte while the worker moves; empty at the end of the connection."""
        beat = since = None
        while True:
            try:
                return os.read(self._bell, 1)
            except BlockingIOError:  # _watch_s went by
                if since is None or self._pulse[0] != beat:
                    beat, since = int(self._pulse[0]), time.monotonic()
                elif time.monotonic() - since > self._timeout_s:
                    raise WorkerLostError(f"hung for more than {self._timeout_s:g} s") from None

    def _give_up_after(self, option: int, seconds: float) -> None:
        """Sets after how long a read or a write gives up; 0 is never."""
        with socket.socket(fileno=os.dup(self._bell)) as ours:
            ours.setblocking(True)  # overrides socket.setdefaulttimeout
            seconds = min(seconds, 1e9)  # the system takes no larger number
            whole = int(seconds)
            timeval = struct.pack("ll", whole, int(1e6 * (seconds - whole)))
            ours.setsockopt(socket.SOL_SOCKET, option, timeval)

    def _how_it_died(self) -> str:
        if not connection.wait([self.process.sentinel], 5.0):
            return "closed its connection"
        self._end_its_children()
        self.process.join()
        code = self.process.exitcode
        if code is None:  # someone else has reaped it
            return "died"
        if code >= 0:
            return f"exited with code {code}"
        name = signal.Signals(-code).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")

    def ask_to_stop(self) -> None:
        """Closes the connection for writing, which ends the worker. A command to stop could be
        misread if Ctrl-C or SIGTERM had interrupted a message."""
        if not self._connection.closed:
            with socket.socket(fileno=os.dup(self._bell)) as ours, contextlib.suppress(OSError):
                ours.shutdown(socket.SHUT_WR)

    def end(self, patience_s: float = 0.0) -> None:
        """Waits up to `patience_s` for the process to end, then kills it."""
        connection.wait([self.process.sentinel], patience_s)
        self._end_its_children()
        self.process.kill()
        self.process.join()
        self._connection.close()

    def _end_its_children(self) -> None:
        """Kills the worker's process group; only before it is reaped, while its number is taken."""
        pid = self.process.pid
        if pid is not None and self.process._popen.returncode is None:  # pyright: ignore
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = {name: os.environ[name] for name in ONE_THREAD if name in os.environ}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name in ONE_THREAD:
            del os.environ[name]
        os.environ.update(before)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Holds back signals that end a process until the worker is started. It inherits the mask that
    blocks them, because only the parent handles them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with held(""):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            # multiprocessing's tracker of resources ignores the others, and unblocks them.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
            resource_tracker.ensure_running()
            signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _leave_signals_to_the_parent() -> None:
    """Lets SIGTERM and SIGHUP of a scheduler, which sends them to every process, do nothing here.

    They are not ignored: what an environment starts would inherit that, and not end by them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
        os.register_at_fork(after_in_child=partial(signal.signal, number, signal.SIG_DFL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP})


def _serve(
    parent: connection.Connection,
    plan: Plan,
    memory: Any,
    count: int,
    index: int,
    parts: Sequence[slice],
    record: SharedRecord | None,
) -> None:
    """Runs in the worker process: answers commands until the connection ends."""
    _leave_signals_to_the_parent()
    os.setpgid(0, 0)
    # Its parent sees a daemon, but its environments may start processes, which a daemon may not.
    multiprocessing.current_process()._config["daemon"] = False  # pyright: ignore
    threading.Thread(target=_die_with_parent, daemon=True).start()
    rows, bell = Rows.in_memory(plan, count, memory), parent.fileno()
    written = None if record is None else record.open()
    share: Share | None = None
    failed: RowError | None = None
    """The error of the load; it then answers every command."""
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        while byte := os.read(bell, 1):
            try:
                if byte[0] != MESSAGE:
                    assert share is not None, "a step before the load"
                    share.step(byte[0])
                else:
                    # Unpickling the factory imports a user's modules, which may fail too.
                    with faults_of("import"):
                        command, *arguments = parent.recv()
                    if failed is not None:
                        raise failed
                    if command == "load":
                        share = arguments[0].fn.share(rows, parts, index)
                    elif command == "play":
                        assert share is not None, "a round before the load"
                        assert written is not None, "a round without a record"
                        _timed_play(share, written, *arguments, pulse=rows.pulse[index])
                    else:
                        getattr(share, command)(*arguments)
                os.write(bell, b"\0")
            except RowError as error:
                failed = error if share is None else None
                os.write(bell, bytes([MESSAGE]))
                parent.send(error)
    if share is not None:
        share.close()


def _timed_play(
    share: Share, record: Record, units: Units, asked: Round, pulse: np.ndarray
) -> None:
    """Plays a round of some units, and writes to the pulse how long it took."""
    started = time.perf_counter_ns()
    play(share, units, asked, record.of_width(asked.acting.output_dim).part(units.rows))
    pulse[ROUND] = time.perf_counter_ns() - started


def _die_with_parent() -> None:
    """Ends this process and those that environments started when its parent is killed, even if an
    environment is busy or hangs."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.killpg(os.getpid(), signal.SIGKILL)
