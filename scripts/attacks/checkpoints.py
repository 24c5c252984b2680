"""Attack: files of a checkpoint are changed or cut, byte by byte."""

from __future__ import annotations

import shutil
import warnings
from functools import partial
from pathlib import Path

from attacks.children import in_lanes
from attacks.result import Effort, Result, counted
from attacks.runs import KINDS, newest_checkpoint, train


def damaged_bytes(effort: Effort, place: Path) -> Result:
    """Each byte of each file is inverted, has a bit flipped, or is where the file is cut."""
    place.mkdir(exist_ok=True)
    kind, run = next(iter(KINDS)), place / "run"
    (failed,) = in_lanes([""], lambda _, folder: train(kind, run, 2, folder / "log").code, place)
    if failed:
        raise RuntimeError(f"the run to damage ended with exit code {failed}")
    newest = newest_checkpoint(run)
    assert newest is not None
    cases = [
        (path.name, at, how)
        for path in sorted(newest.iterdir())
        for at in effort.some(list(range(path.stat().st_size)), effort.bytes)
        for how in ("inverted", "flipped", "cut")
    ]
    lanes = [cases[i::64] for i in range(64)]  # a copy of the run for many tries, not for each
    answers = in_lanes(lanes, partial(_tried, run / "checkpoints"), place / "damaged")
    return counted(
        "a byte of a checkpoint changed, or a file cut there: detected, the one before is used",
        [each for lane in answers for each in lane or [None]],
    )


def _tried(checkpoints: Path, cases: list[tuple[str, int, str]], folder: Path) -> list[str]:
    from metarl.errors import CheckpointWarning
    from metarl.runs import checkpoint

    copy = folder / "checkpoints"
    shutil.copytree(checkpoints, copy)
    newest = max(copy.glob("[0-9]*"))
    answers = []
    for name, at, how in cases:
        path = newest / name
        whole = path.read_bytes()
        path.write_bytes(_damaged(whole, at, how))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for taken in (checkpoint.load_latest, checkpoint.best):
                try:
                    found = taken(copy)
                    used = 0 if found is None else found.iteration
                except Exception as error:
                    used = repr(error)
                told = any(issubclass(each.category, CheckpointWarning) for each in said)
                good = used == 1 and (told or taken is checkpoint.best)
                answers.append("" if good else f"{name}, byte {at} {how}: {used}")
        path.write_bytes(whole)
    return answers


def _damaged(whole: bytes, at: int, how: str) -> bytes:
    if how == "cut":
        return whole[:at]
    flip = 0xFF if how == "inverted" else 1 << (at % 8)
    return whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]
