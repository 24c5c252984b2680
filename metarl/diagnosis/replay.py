"""Checks of a run's replay: the trials that its checkpoints name are there, each byte as saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from metarl.diagnosis.finding import FAULT, Finding, summed
from metarl.errors import UserError
from metarl.found import LARGE
from metarl.loop import saved_state
from metarl.runs.directory import RunDirectory
from metarl.runs.replay import check_segment


def replay(run: RunDirectory, intact: Iterable[int]) -> Iterator[Finding]:
    """Yields whether the segments that intact checkpoints name are whole; nothing without any."""
    paths = [run.checkpoints / f"{iteration:06d}" for iteration in intact]
    segments = {}
    for state in saved_state.replays(paths):
        segments |= state.names()
    if segments:
        text = f"{len(segments)} files of trials, each as it was saved"
        yield from summed("replay", text, _damaged(run, segments))


def _damaged(run: RunDirectory, segments: dict[str, str]) -> Iterator[Finding]:
    for name, digest in segments.items():
        try:
            check_segment(run.replay / name, digest, LARGE)
        except UserError as error:
            first, _, rest = str(error).partition("\n")
            yield Finding(FAULT, "replay", first, rest)
