"""The counts of a run that its checkpoints keep beside the weights, read with their types."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from metarl.config.ranges import MOST_WHOLE
from metarl.errors import CorruptCheckpointError
from metarl.runs.checkpoint_files import claimed_state
from metarl.runs.replay import ReplayState
from metarl.text import shown

MOST_RECENT = 100
"""Scores in a list of recent ones."""


class SavedState(NamedTuple):
    """Counts of a run after a complete iteration."""

    recent: list[float]
    """Scores of the newest iterations; NaN where one was not finite."""
    wall_s: float
    skipped_in_a_row: int
    counters: dict[str, int]
    """Experience so far, by the names of the source's counters."""
    replay: ReplayState | None = None
    """Trials that the agent learns from again; None where it has none."""

    def stored(self) -> dict[str, Any]:
        """Returns the counts for JSON, which has no NaN."""
        recent = [x if math.isfinite(x) else None for x in self.recent]
        rest = {"wall_s": self.wall_s, "skipped_in_a_row": self.skipped_in_a_row, "recent": recent}
        if self.replay is not None:
            rest["replay"] = self.replay.stored()
        return {**self.counters, **rest}


def read(state: Mapping[str, Any], counters: Mapping[str, int], place: object) -> SavedState:
    """Returns the counts in a checkpoint's state; earlier ones lack some.

    Args:
        state: the checkpoint's.
        counters: those of the run's source before its first iteration.
        place: the checkpoint, for the message.

    Raises:
        CorruptCheckpointError: for anything else.
    """
    known = {"recent", "wall_s", "skipped_in_a_row", "replay", *counters}
    if unknown := state.keys() - known:
        raise _wrong(place, min(unknown), "is no count of such a run")
    recent = state.get("recent")
    if not isinstance(recent, list) or len(recent) > MOST_RECENT:
        raise _wrong(place, "recent", f"is no list of up to {MOST_RECENT} scores")
    wall_s = state.get("wall_s", 0.0)
    if not _is_number(wall_s) or not 0 <= wall_s < math.inf:
        raise _wrong(place, "wall_s", f"is {shown(wall_s)}, no time in seconds")
    whole = {name: state.get(name, 0) for name in ("skipped_in_a_row", *counters)}
    for name, value in whole.items():
        if type(value) is not int or not 0 <= value <= MOST_WHOLE:
            raise _wrong(place, name, f"is {shown(value)}, no count")
    for score in recent:
        if score is not None and not _is_number(score):
            raise _wrong(place, "recent", f"holds {shown(score)}, no score")
    scores = [math.nan if score is None else float(score) for score in recent]
    replay = ReplayState.read(state["replay"], place) if "replay" in state else None
    return SavedState(scores, float(wall_s), whole.pop("skipped_in_a_row"), whole, replay)


def replays(checkpoints: Iterable[Path]) -> list[ReplayState]:
    """Returns the replays that checkpoints name; those that cannot be read name none."""
    found = []
    for path in checkpoints:
        state = claimed_state(path)
        with suppress(CorruptCheckpointError):
            found += [ReplayState.read(state["replay"], path)] if "replay" in state else []
    return found


def _is_number(value: Any) -> bool:
    # A whole number of any length is one of JSON, and float() does not take all of them.
    return type(value) is float or (type(value) is int and abs(value) <= MOST_WHOLE)


def _wrong(place: object, name: str, why: str) -> CorruptCheckpointError:
    return CorruptCheckpointError(
        f"{place} has counts that no run has: {shown(name)} {why}\n"
        "remove this checkpoint to continue from the one before"
    )
