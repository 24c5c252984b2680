"""Attack: an evaluation is killed before each change of a file, and another command follows."""

from __future__ import annotations

import hashlib
import shutil
from functools import partial
from pathlib import Path

from attacks import events
from attacks.children import call, in_lanes
from attacks.kills import kill_at
from attacks.result import Effort, Result, counted
from attacks.runs import KINDS, train

EVALUATION = "--tasks 2 --steps 1 --episodes 2 --workers 0 --threads 1".split()
FILES = ("adaptation.json", "adaptation.csv", "adaptation.png")


def kills_in_evaluations(effort: Effort, place: Path) -> Result:
    """kill -9 before every file event of an evaluation that replaces another one."""
    place.mkdir(exist_ok=True)
    run = place / "run"
    ((old, new),) = in_lanes([run], _two_evaluations, place / "made")
    numbers = effort.some(list(range(1, 50)), effort.evaluations)
    found = in_lanes(numbers, partial(_killed, run, old, new), place / "killed")
    return counted(
        "kill -9 before every file event of an evaluation: the files of the old one or of the new",
        [each for each in found if each != "none"],
    )


def _two_evaluations(run: Path, folder: Path) -> tuple[str, str]:
    """Trains a run and evaluates it twice; returns what two evaluations give. The first stays."""
    train(next(iter(KINDS)), run, 1, folder / "log")
    seen = []
    for seed in ("2", "1"):
        ended = call("evaluate", [run, *EVALUATION, "--seed", seed], folder / "log")
        if ended.code:
            raise RuntimeError(ended.said)
        seen.append(_hash(run))
    return seen[1], seen[0]


def _killed(run: Path, old: str, new: str, number: int, folder: Path) -> str:
    """Kills the second evaluation at a file event; "none" where it has fewer events."""
    copy = folder / "run"
    shutil.copytree(run, copy)
    arm = partial(events.watch, partial(kill_at, number), str(copy))
    ended = call("evaluate", [copy, *EVALUATION, "--seed", "2"], folder / "log", before=arm)
    if not ended.code:
        return "none"
    looked = call("report", [copy], folder / "log2")
    left = [str(path) for path in copy.rglob(".*") if path.name != ".lock"]
    if looked.code or left:
        return f"killed at event {number}: the report ended with {looked.code}; {left} stay"
    return "" if _hash(copy) in (old, new) else f"killed at event {number}: a mixture"


def _hash(run: Path) -> str:
    digest = hashlib.sha256()
    for name in FILES:
        content = (run / "evaluation" / name).read_bytes()
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()
