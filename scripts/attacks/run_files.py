"""Attack: files of a run that somebody sent are damaged, forged, links or pipes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from attacks.children import call, in_lanes
from attacks.configs import judged
from attacks.result import Effort, Result, counted
from attacks.runs import KINDS, flags

SECRET = "a secret from outside of the run"
EVALUATION = "--tasks 2 --steps 1 --episodes 2 --workers 0 --threads 1".split()
READERS = {
    "config.yaml": ("train", "evaluate", "report"),
    "environment.json": ("train", "report"),
    "metrics.jsonl": ("train", "report"),
    "evaluation/adaptation.json": ("report",),
    "checkpoints/000002/state.json": ("train", "evaluate"),
    "checkpoints/000002/manifest.json": ("train", "evaluate"),
    "checkpoints/000002/agent.safetensors": ("train", "evaluate"),
}
"""File of a run -> the commands that read it."""
KEPT = (".lock", "errors.log", "tensorboard", "checkpoints", "evaluation", "report.html")
"""What else a run's folder holds, which commands write."""
OUTSIDE = {
    "a link out": lambda path, secret: path.symlink_to(secret),
    "a link to /dev/zero": lambda path, secret: path.symlink_to("/dev/zero"),
    "a pipe": lambda path, secret: os.mkfifo(path),
    "a link to itself": lambda path, secret: path.symlink_to(path),
}
"""What stands in a file's place -> how it is put there."""


def hostile_files(effort: Effort, place: Path) -> Result:
    """Every kind of file, for every command that reads it."""
    place.mkdir(exist_ok=True)
    run = place / "run"
    in_lanes([run], _made, place / "made")
    cases = [
        (door, name, path, fault)
        for path, name, fault in _faults(run)
        for door in READERS.get(path, ("train", "report"))
        if door == "train" or not (path.endswith("state.json") and name.startswith("state "))
    ]
    random.Random(1).shuffle(cases)
    cases = effort.some(cases, effort.files)
    # Functions do not travel as JSON, but lanes are forks, so they need not.
    answers = in_lanes(cases, partial(_given, run), place / "tries")
    return counted(
        "a hostile file in a run: exit 2, no traceback, under 3 s and 500 MB, nothing outside read "
        "or written",
        [None if each is None else each[0] for each in answers],
        f"at most {max((each[1] for each in answers if each), default=0.0):.0f} MB",
    )


def _made(run: Path, folder: Path) -> int:
    argv = flags(next(iter(KINDS)), run, 2, "--checkpoint-every", "2")
    for door, words in (("train", argv), ("evaluate", [run, *EVALUATION])):
        ended = call(door, words, folder / "log")
        if ended.code:
            raise RuntimeError(ended.said)
    return 0


def _given(
    run: Path, case: tuple[str, str, str, Callable[[Path, Path], object]], folder: Path
) -> tuple[str, float]:
    door, name, path, fault = case
    copy, secret = folder / "run", folder / "secret"
    shutil.copytree(run, copy)
    secret.write_text(SECRET, encoding="utf-8")
    before = secret.stat()
    fault(copy / path, secret)
    words = {
        "train": ["--config", copy / "config.yaml", "--iterations", "3"],
        "evaluate": [copy, *EVALUATION],
        "report": [copy],
    }
    ended = call(door, words[door], folder / "log", longest=20)
    place = f"{door}: {path} is {name}"
    wrong = judged(place, ended)
    after = secret.stat()
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        wrong = f"{place}: a file outside was written"
    if SECRET in ended.said or any(
        SECRET.encode() in each.read_bytes()
        for each in copy.glob("*.html")
        if not each.is_symlink() and each.is_file()
    ):
        wrong = f"{place}: a file outside was read"
    shutil.rmtree(folder, ignore_errors=True)
    return wrong, ended.peak_mb


def _faults(run: Path) -> Iterator[tuple[str, str, Callable[[Path, Path], object]]]:
    """Yields the path of a file, what is wrong with it, and the function that makes it so."""
    for path in (*READERS, *KEPT):
        for name, put in OUTSIDE.items():
            yield path, name, partial(_instead, put)
    for path in READERS:
        content = (run / path).read_bytes()
        for name, changed in _contents():
            # A last line without its end is what a killed process leaves, and no fault.
            ended = changed + b"\n" * path.endswith(".jsonl")
            yield path, name, partial(_written, ended, path)
        if path.endswith(".json"):
            for name, changed in _documents(json.loads(content)):
                yield path, name, partial(_written, changed, path)
    line = json.loads((run / "metrics.jsonl").read_bytes().split(b"\n")[0])
    for name, changed in _documents({"iteration": line["iteration"]}, line):
        yield "metrics.jsonl", name, partial(_written, changed + b"\n", "metrics.jsonl")
    for split in (
        "../../secret",
        "train/../../../secret",
        "/etc/passwd",
        "\0",
        "x" * 5000,
        "train",
    ):
        document = json.loads((run / "evaluation/adaptation.json").read_bytes())
        changed = json.dumps({**document, "split": split}).encode()
        path = "evaluation/adaptation.json"
        yield path, f"of the split {split[:20]!r}", partial(_written, changed, path)


def _instead(put: Callable[[Path, Path], object], path: Path, secret: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    put(path, secret)


def _written(content: bytes, name: str, path: Path, secret: Path) -> None:
    """Writes a changed file; a checkpoint's with the right checksum, as who forges it would."""
    del secret
    path.write_bytes(content)
    if "checkpoints" in name and path.name != "manifest.json":
        manifest = path.with_name("manifest.json")
        document = json.loads(manifest.read_bytes())
        document["sha256"][path.name] = hashlib.sha256(content).hexdigest()
        manifest.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _contents() -> Iterator[tuple[str, bytes]]:
    """Yields contents that are right in no file."""
    yield "a zero", b"\0"
    yield "zeros", bytes(1000)
    yield "not text", b"\xff\xfe{}"
    yield "deep lists", b"[" * 100_000
    yield "deep objects", b'{"a":' * 100_000
    yield "many small values", b'{"a": [' + b"[]," * 5_000_000 + b"[]]}\n"
    yield "a long number", b'{"iteration": ' + b"9" * 50_000 + b"}\n"
    yield "a long text", b'{"format": "' + b"x" * 3_000_000 + b'"}\n'
    yield "a list", b"[1, 2]\n"
    yield "a number", b"1\n"
    yield "NaN", b'{"format": NaN}\n'
    yield "a line without end", b"x" * 3_000_000
    yield "control characters", b'{"format": "\\u001b[31m\x1b[31m"}\n'
    yield "a header of 2**63 bytes", b"\xff" * 7 + b"\x7f{}"
    yield "a forged header", _tensors({"w": ["F32", [2**40], [0, 2**42]]})
    yield "tensors that overlap", _tensors({n: ["F32", [1], [0, 4]] for n in "ab"})
    yield "other tensors", _tensors({"w": ["F32", [1], [0, 4]]})
    yield "no tensors", _tensors({})


def _tensors(described: dict[str, list[Any]]) -> bytes:
    header = json.dumps(
        {name: dict(zip(("dtype", "shape", "data_offsets"), each, strict=True))
         for name, each in described.items()}
    ).encode()  # fmt: skip
    return len(header).to_bytes(8, "little") + header + bytes(4)


WRONG = (
    "text",
    -1,
    0.5,
    10**30,
    1e300,
    True,
    [],
    [[[]]],
    {},
    {"a": {}},
    None,
    "\x1b[31m",
    [1, "x"],
)
"""Values that stand in a field's place."""
MAY_BE = {
    "wall_s", "score", "agent", "env", "versions", "variables", "git", "machine", "threads",
    "history", "made_from", "controls", "others", "tasks", "success", "solved_at",
    "success_summary", "summary",
}  # fmt: skip
"""Fields that hold free text, or in which some of these values are right or are computed anew."""


def _documents(
    document: dict[str, Any], around: dict[str, Any] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yields an object with a field missing, or with a wrong value in it, within others."""
    document, checked = {**(around or {}), **document}, document
    for key in sorted(checked.keys() - MAY_BE):
        if "/" not in key and key not in ("env_steps", "success"):
            left = {k: v for k, v in document.items() if k != key}
            yield f"without {key}", json.dumps(left).encode()
        for value in WRONG:
            # A number is right in the place of another one.
            if not (isinstance(value, float | int) and isinstance(document[key], float | int)):
                if value is None and isinstance(document[key], float):
                    continue
                yield f"{key} {value!r}"[:60], json.dumps({**document, key: value}).encode()
