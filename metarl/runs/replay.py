"""A replay of trials, which an off-policy agent learns from again and again.

    replay/000041.f32   trials that one meta-iteration added: float32, little-endian, [N, L, width]

A segment holds the trials of one `add` and never changes. In a run each segment is a file, written
whole before the iteration ends and mapped into memory, so that the system may give its pages back.
A checkpoint names its segments by their SHA-256 (`ReplayState`). A resumed run takes exactly those,
and a file that no kept checkpoint names is removed. A file has no header: the agent knows the
shapes, and nothing in it is interpreted.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from metarl import found
from metarl.config.ranges import MOST_WHOLE
from metarl.errors import CorruptCheckpointError, UserError
from metarl.runs import files
from metarl.text import shown

FLOAT = np.dtype("<f4")
MOST_SEGMENTS = 10_000
"""Segments that a replay holds; more do not fit into a checkpoint's state.json."""
NAME = re.compile(r"([0-9]{6}|[1-9][0-9]{6,18})\.f32")
LEFT = re.compile(r"\.(.+\.f32)\.[0-9a-f]+\.tmp")
"""Names of temporary files that a killed process left."""
DIGEST = re.compile(r"[0-9a-f]{64}")
KEPT_AT_MOST = 2
"""Replays' worth of segments on the disk: the newest, and that of the best checkpoint."""


class ReplayState(NamedTuple):
    """Segments of a replay, as a checkpoint names them."""

    first: int
    """Number of the oldest segment; the others follow without a gap."""
    digests: tuple[str, ...]
    """SHA-256 of each segment's bytes, oldest first."""

    def stored(self) -> dict[str, Any]:
        """Returns the state for JSON."""
        return {"first": self.first, "sha256": " ".join(self.digests)}

    @classmethod
    def read(cls, value: object, place: object) -> ReplayState:
        """Returns the state that `stored` gave; `place` is the checkpoint, for the message.

        Raises:
            CorruptCheckpointError: for anything else.
        """
        given: dict[str, Any] = value if isinstance(value, dict) else {}
        first, words = given.get("first"), given.get("sha256")
        digests = tuple(words.split()) if isinstance(words, str) else None
        if type(first) is not int or digests is None or len(given) > 2:
            raise CorruptCheckpointError(f"{place} has the replay {shown(value)}, which is none")
        if not 0 <= first <= MOST_WHOLE - MOST_SEGMENTS or len(digests) > MOST_SEGMENTS:
            raise CorruptCheckpointError(f"{place} has a replay of more segments than fit")
        for digest in digests:
            if not DIGEST.fullmatch(digest):
                raise CorruptCheckpointError(
                    f"{place} names a segment of its replay by {shown(digest)}, no SHA-256"
                )
        return cls(first, digests)

    def names(self) -> dict[str, str]:
        """Returns the files of the segments -> their SHA-256."""
        return {file_name(self.first + i): digest for i, digest in enumerate(self.digests)}


def file_name(number: int) -> str:
    """Returns the name of a segment's file."""
    return f"{number:06d}.f32"


class Segment(NamedTuple):
    """Trials of one `add`."""

    number: int
    trials: np.ndarray  # [N, L, width] float32, read-only
    digest: str
    """SHA-256 of its bytes; empty where it is in memory alone."""


class Replay:
    """Trials with arrays of the same shapes, of which the oldest segments go.

    Args:
        shapes: shape of each array of one trial by name, [L, ...] with the same L.
        capacity: trials that are kept at most.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]], capacity: int):
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        (self.length,) = {shape[0] for shape in self.shapes.values()}
        self.widths = {name: prod(shape[1:]) for name, shape in self.shapes.items()}
        self.capacity = capacity
        self.segments: tuple[Segment, ...] = ()
        """Segments, oldest first."""
        self.folder: Path | None = None
        """Folder of the segments' files; None where they are in memory alone."""
        self._next = 0

    @property
    def bytes_of_trial(self) -> int:
        """Bytes of one trial."""
        return self.length * sum(self.widths.values()) * FLOAT.itemsize

    @property
    def bytes_needed(self) -> int:
        """Bytes of a full replay."""
        return self.capacity * self.bytes_of_trial

    def __len__(self) -> int:
        """Returns the number of trials."""
        return sum(len(segment.trials) for segment in self.segments)

    def add(self, trials: Mapping[str, np.ndarray]) -> None:
        """Adds a segment; `trials` are arrays [N, L, ...] by name.

        Raises:
            ValueError: for other names or shapes, and for no trial.
            UserError: for more trials or segments than a replay holds, and a disk that is full.
        """
        number = len(next(iter(trials.values())))
        wrong = {name: np.shape(x) for name, x in trials.items()}
        if not number or wrong != {name: (number, *shape) for name, shape in self.shapes.items()}:
            raise ValueError(f"trials are {wrong}, and this replay has those of {self.shapes}")
        self.check_size(number)
        flat = [
            np.asarray(trials[name], FLOAT).reshape(number, self.length, width)
            for name, width in self.widths.items()
        ]
        self._append(np.concatenate(flat, -1))
        while len(self) > self.capacity:
            self.segments = self.segments[1:]

    def check_size(self, number: int) -> None:
        """Checks that segments of so many trials fit into a replay.

        Raises:
            UserError: where they do not.
        """
        if number > self.capacity:
            raise UserError(
                f"a replay of {self.capacity:,} trials cannot hold the {number:,} trials of one "
                "meta-iteration\nraise --agent.outer.replay, or lower --sampling.tasks or "
                "--sampling.episodes"
            )
        if self.capacity // number > MOST_SEGMENTS:
            raise UserError(
                f"a replay of {self.capacity:,} trials, {number:,} of each meta-iteration, is "
                f"{self.capacity // number:,} files, and a run has at most {MOST_SEGMENTS:,}\n"
                "lower --agent.outer.replay, or raise --sampling.tasks or --sampling.episodes"
            )

    def _append(self, rows: np.ndarray) -> None:
        rows.flags.writeable = False
        digest = ""
        if self.folder is not None:
            path = self.folder / file_name(self._next)
            try:
                content = rows.tobytes()
                files.replace_bytes(path, content)
                digest = hashlib.sha256(content).hexdigest()
                with found.opened(path) as file:
                    rows = self._mapped(file)
            except OSError as error:
                raise UserError(f"no trials can be saved to {path}: {error.strerror}") from error
        self.segments = (*self.segments, Segment(self._next, rows, digest))
        self._next += 1

    def _mapped(self, file: BinaryIO) -> np.ndarray:
        """Returns the trials in a file, mapped into memory."""
        width = sum(self.widths.values())
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(content, FLOAT).reshape(-1, self.length, width)

    def draw(self, rng: np.random.Generator, number: int) -> dict[str, np.ndarray]:
        """Draws trials uniformly, with replacement: arrays [number, L, ...] by name.

        Raises:
            ValueError: where there is no trial.
        """
        chosen = rng.integers(len(self), size=number)
        ends = list(accumulate((len(segment.trials) for segment in self.segments), initial=0))
        drawn = np.empty((number, self.length, sum(self.widths.values())), FLOAT)
        for place, index in enumerate(chosen.tolist()):
            segment = bisect_right(ends, index) - 1
            drawn[place] = self.segments[segment].trials[index - ends[segment]]
        bounds = pairwise(accumulate(self.widths.values(), initial=0))
        return {
            name: drawn[..., a:b].reshape(number, *self.shapes[name])
            for name, (a, b) in zip(self.widths, bounds, strict=True)
        }

    def take(self, other: Replay) -> None:
        """Takes the trials of another replay of the same shapes, which stay where they are."""
        if other.shapes != self.shapes:
            raise ValueError(
                f"trials are {other.shapes}, and this replay has those of {self.shapes}"
            )
        self.segments, self._next = other.segments, other._next

    def keep_in(self, folder: Path) -> None:
        """Makes a folder in which segments are files from now on; there must be none yet."""
        if self.segments:
            raise ValueError("this replay has trials that are in no file")
        folder.mkdir(exist_ok=True)
        self.folder = folder

    def state(self) -> ReplayState:
        """Returns the present segments for a checkpoint."""
        first = self.segments[0].number if self.segments else self._next
        return ReplayState(first, tuple(segment.digest for segment in self.segments))

    def restore(self, state: ReplayState) -> None:
        """Takes the segments of a checkpoint from the folder, each byte as it was.

        Raises:
            UserError: for a file that is missing or damaged; it is named.
        """
        assert self.folder is not None
        read, trials = [], 0
        for name, digest in state.names().items():
            rows = self._checked(self.folder / name, digest)
            read.append(Segment(state.first + len(read), rows, digest))
            trials += len(rows)
        if trials > self.capacity:
            raise UserError(
                f"{self.folder} holds {trials:,} trials, and this agent keeps {self.capacity:,}"
            )
        self.segments, self._next = tuple(read), state.first + len(read)

    def _checked(self, path: Path, digest: str) -> np.ndarray:
        check_segment(path, digest, self.bytes_needed)
        with found.opened(path) as file:
            size = file.seek(0, 2)
            if not size or size % self.bytes_of_trial:
                raise UserError(
                    f"{path} has {size:,} bytes, no trials of {self.bytes_of_trial:,}\n"
                    "it is of another agent or of another horizon"
                )
            return self._mapped(file)

    def remove_all_but(self, needed: Iterable[ReplayState]) -> None:
        """Removes the files that neither these states nor the present segments need."""
        if self.folder is None:
            return
        kept = {name for state in (*needed, self.state()) for name in state.names()}
        for path in sorted(self.folder.iterdir()):
            if (left := LEFT.fullmatch(path.name)) is not None:
                files.sweep(path.with_name(left[1]))
            elif NAME.fullmatch(path.name) and path.name not in kept:
                path.unlink()


def check_segment(path: Path, digest: str, most: int) -> None:
    """Checks that a segment's file of at most `most` bytes has the SHA-256 that was saved.

    Raises:
        UserError: where it is missing or damaged.
    """
    remedy = "put back a copy of the file; without it the run cannot go on as it was"
    try:
        found.check_file(path, most)
        with found.opened(path) as file:
            actual = _digest(file)
    except FileNotFoundError:
        raise UserError(f"{path} is missing, and the checkpoint needs it\n{remedy}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}\n{remedy}") from error
    if actual != digest:
        raise UserError(f"{path} is damaged: its SHA-256 is {actual}, saved was {digest}\n{remedy}")


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
