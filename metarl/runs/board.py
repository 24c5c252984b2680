"""Writes TensorBoard's files of a run, in the thread of the run.

TensorBoard's own writer has a thread, in which an error such as a full disk would go unseen.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore
from tensorboard.summary.writer.record_writer import RecordWriter

from metarl.runs.files import naming


class Board:
    """Appends scalars to a new file in a run's `tensorboard/`."""

    def __init__(self, folder: Path, iteration: int = 0, kind: str = ""):
        """Starts a file. TensorBoard then hides iterations after `iteration` in earlier files.

        A `kind` is a subfolder, which TensorBoard shows as a run of its own.
        """
        with naming(folder):
            folder.mkdir(exist_ok=True)
        folder = folder / kind if kind else folder
        host = platform.node() or "localhost"
        # The number after the process's keeps files apart that one process makes in a second.
        name = f"events.out.tfevents.{int(time.time()):010d}.{host}.{os.getpid()}"
        self._path = folder / f"{name}.{time.monotonic_ns()}"
        with naming(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "xb")  # noqa: SIM115  closed by `close`
        self._records = RecordWriter(self._file)
        self._write(
            Event(file_version="brain.Event:2"),
            Event(step=iteration + 1, session_log=SessionLog(status=SessionLog.START)),
        )

    def append(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes the scalars of a step."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._write(Event(step=step, summary=Summary(value=values)))

    def hyperparameters(self, values: Mapping[str, float | bool | str]) -> None:
        """Writes the settings of a run, for TensorBoard's page HPARAMS."""
        from tensorboard.plugins.hparams import summary_v2 as hparams

        for made in hparams.hparams_pb(dict(values), start_time_secs=0.0).value:
            self._write(Event(step=0, summary=Summary(value=[made])))

    def _write(self, *events: Event) -> None:
        with naming(self._path):
            for event in events:
                event.wall_time = time.time()
                self._records.write(event.SerializeToString())
            self._file.flush()

    def close(self) -> None:
        with suppress(OSError):  # all is written already, but for what an error told of
            self._file.close()
