"""Signals wait while something is written: a stopped run loses no complete iteration."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from file_events import at_file_event, count_events
from whole_runs import rows

from metarl.experiments.presets import preset
from metarl.loop.training import Training
from metarl.runs import checkpoint, directory, environment
from metarl.sampling import worker
from metarl.signals import ENDING, end_by_exception, held


def send(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ENDING}
    for number in ENDING:
        signal.signal(number, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Counting:
    """A source and an agent that only count; the second iteration gets the first signal."""

    updates, steps, workers, device = 1, 1, 0, torch.device("cpu")

    def __init__(self, stopped: bool):
        self.counters, self.done, self._stopped = {"env_steps": 0}, 0, stopped

    def open(self, stack: Any, note: Any) -> str:
        return ""

    def collect(self, *key: Any) -> Any:
        self.counters["env_steps"] += 1
        return SimpleNamespace(state=None, query=None, curve=None)

    def meta_update(self, *data: Any) -> dict[str, float]:
        self.done += 1
        if self.done == 2 and self._stopped:
            send()
        return {"skipped": 0.0}

    def outcomes(self, rounds: Any) -> dict[str, float]:
        return {}

    def score(self, outcomes: Any, steps: int) -> float:
        return 0.0

    def sameness(self, rounds: Any) -> str:
        return ""

    def sizes(self, rounds: Any) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"done": torch.tensor(self.done)}


@pytest.fixture
def run_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    monkeypatch.setattr(environment, "describe", lambda *more: {})
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # a busy disk takes its time

    def run_in(folder: Path, stopped: bool = True) -> None:
        config = replace(preset("point-goal"), iterations=2, checkpoint_every=100)
        counting: Any = Counting(stopped)
        Training(config, directory.create(folder), "x", counting, counting).run_to_the_end()

    return run_in


def check_kept(folder: Path) -> None:
    """Every line of metrics.jsonl is in the newest checkpoint."""
    kept = checkpoint.load_latest(folder / "checkpoints")
    assert (kept.iteration if kept else 0) == len(rows(folder))


def test_a_second_signal_at_any_file_event_of_the_last_save(tmp_path, run_in, capfd):
    with count_events() as events, pytest.raises(KeyboardInterrupt):
        run_in(tmp_path / "0")
    assert events.count("os.rename") > 1
    for number in range(1, len(events) + 1):
        folder = tmp_path / str(number)
        with at_file_event(number, send), pytest.raises(KeyboardInterrupt):
            run_in(folder)
        if (folder / "metrics.jsonl").exists():
            check_kept(folder)
    assert "saving the last iteration; kill -9 ends at once" in capfd.readouterr().err


@contextmanager
def at_line(number: int, action: Callable[[], None]) -> Iterator[list[int]]:
    """Calls `action` at a line of the loop or of `held`, counted over the whole block."""
    files, found = {sys.modules[x.__module__].__file__ for x in (Training, held)}, []

    def traced(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        found.append(frame.f_lineno)
        if len(found) == number:
            action()
        return traced

    sys.settrace(traced)
    try:
        yield found
    finally:
        sys.settrace(None)


@pytest.mark.parametrize("stopped", [False, True])
def test_signals_at_any_line(tmp_path, run_in, stopped):
    """One at any moment, or a second one, with a third just after it."""
    with at_line(0, send) as lines, suppress(KeyboardInterrupt):
        run_in(tmp_path / "0", stopped)
    assert len(lines) > 40

    def twice() -> None:
        with suppress(KeyboardInterrupt):
            send()
        send()

    for number in range(1, len(lines) + 1, 4):
        folder = tmp_path / str(number)
        with at_line(number, twice), suppress(KeyboardInterrupt):
            run_in(folder, stopped)
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
        if (folder / "metrics.jsonl").exists():
            check_kept(folder)


def test_signals_wait_and_are_delivered_at_the_end():
    done = []

    def work() -> None:
        with held("saving"):
            send(signal.SIGHUP)
            done.append("held")
        done.append("too late")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["held"]
    with pytest.raises(KeyboardInterrupt):
        send()


def test_what_waits_is_delivered_where_it_may_interrupt():
    done = []

    def work() -> None:
        with held("saving") as stops:
            send(signal.SIGTERM)
            stops.interruptible(lambda: done.append("too late"))

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == []


def test_an_exception_that_was_swallowed_is_followed_by_another():
    def stubborn() -> None:
        with suppress(KeyboardInterrupt):  # as in an object's __del__
            send()
        send()

    with held("saving") as stops, pytest.raises(KeyboardInterrupt):
        stops.interruptible(stubborn)


def test_one_block_in_another():
    done = []

    def work() -> None:
        with held("inner"):
            send()
            done.append("inner")
        done.append("too late")

    with held("outer") as outer, pytest.raises(KeyboardInterrupt):
        outer.interruptible(work)
    assert done == ["inner"]


def test_other_threads_and_signals_without_a_handler():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        end_by_exception()
        with held("saving") as stops:
            send(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            thread = threading.Thread(target=lambda: held("saving").__enter__())
            thread.start()
            thread.join()
            assert stops.interruptible(lambda: 3) == 3
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_worker_that_cannot_be_started_leaves_signals_as_they_were(monkeypatch):
    def none():
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(worker.resource_tracker, "ensure_running", none)
    before = [signal.getsignal(number) for number in ENDING]
    with pytest.raises(OSError, match="unavailable"), worker._undisturbed():
        pass
    assert [signal.getsignal(number) for number in ENDING] == before
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(ENDING)
