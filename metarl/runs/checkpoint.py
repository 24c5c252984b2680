"""Checkpoints that a crash cannot spoil and that prove themselves when they are read.

    checkpoints/000100/  agent.safetensors  tensors
                         state.json         {"iteration", "score", "state"}
                         manifest.json      {"format", "iteration", "sha256": {file: digest}}

A checkpoint is written into a hidden folder beside, forced to the disk and renamed, so one
that bears its number is whole. Tensors are safetensors and the rest JSON: nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from metarl.errors import CheckpointWarning, CorruptCheckpointError, UserError
from metarl.runs.files import sync_folder, write_bytes

FORMAT = 1
TENSORS, STATE, MANIFEST = "agent.safetensors", "state.json", "manifest.json"
KEEP_LAST = 2


class Checkpoint(NamedTuple):
    """What was saved after `iteration` meta-iterations."""

    iteration: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    score: float  # higher is better; NaN where it was not finite
    path: Path


def save(
    folder: Path,
    iteration: int,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    score: float,
) -> Path:
    """Saves a checkpoint and removes those no longer kept: the last 2 and the best stay.

    Args:
        folder: the run's `checkpoints`; only the holder of the run's lock may save into it.
        iteration: meta-iterations done. Checkpoints of later ones belong to a future that
            this run gave up, and go.
        tensors: by name, any dtype and device.
        state: whatever else JSON stores.
        score: higher is better; a score that is not finite is never the best.

    Raises:
        UserError: where the disk takes no more.
    """
    target = folder / f"{iteration:06d}"
    beside = folder / f".{target.name}.new"
    try:
        clean(folder)
        beside.mkdir()
        _write(beside, iteration, tensors, state, score)
        if target.exists():
            os.rename(target, folder / f".{target.name}.old")
        os.rename(beside, target)
        sync_folder(folder)
        _prune(folder, iteration)
        clean(folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise UserError(f"no checkpoint can be saved to {target}: {error.strerror}") from error
    return target


def _write(
    folder: Path,
    iteration: int,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    score: float,
) -> None:
    own = {name: _own(tensor) for name, tensor in tensors.items()}
    stored_score = score if math.isfinite(score) else None
    document = {"iteration": iteration, "score": stored_score, "state": dict(state)}
    files = {
        TENSORS: safetensors.torch.save(own),
        STATE: (json.dumps(document, indent=1) + "\n").encode(),
    }
    digests = {name: _digest(content) for name, content in files.items()}
    manifest = {"format": FORMAT, "iteration": iteration, "sha256": digests}
    files[MANIFEST] = (json.dumps(manifest, indent=1) + "\n").encode()
    for name, content in files.items():
        write_bytes(folder / name, content)
    sync_folder(folder)


def _own(tensor: Tensor) -> Tensor:
    """A copy with memory of its own and no gaps: safetensors refuses others."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def saved(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    numbered = [path for path in folder.iterdir() if path.name.isdigit() and path.is_dir()]
    return sorted(numbered, key=lambda path: int(path.name))


def clean(folder: Path) -> None:
    """Removes what a killed process left. Only for the holder of the run's lock."""
    for path in folder.glob(".*.old"):
        target = folder / path.name.removeprefix(".").removesuffix(".old")
        if not target.exists():
            os.rename(path, target)  # killed between the two renames that replace a checkpoint
        else:
            shutil.rmtree(path)
    for path in (*folder.glob(".*.new"), *folder.glob(".*.gone")):
        shutil.rmtree(path)


def _prune(folder: Path, newest: int) -> None:
    paths = saved(folder)
    kept = [path for path in paths if int(path.name) <= newest]
    best = max(kept, key=_rank)
    for path in set(paths) - {*kept[-KEEP_LAST:], best}:
        # Hidden first: a removal that is cut short must not leave half a checkpoint.
        hidden = folder / f".{path.name}.gone"
        os.rename(path, hidden)
        shutil.rmtree(hidden)


def _rank(path: Path) -> tuple[float, int]:
    """Score, then age: of equals the newest is the best."""
    try:
        score = json.loads((path / STATE).read_bytes())["score"]
        return (-math.inf if score is None else float(score)), int(path.name)
    except (OSError, ValueError, TypeError, KeyError):  # corrupt, so not worth keeping
        return -math.inf, -1


def best(folder: Path, device: torch.device | str = "cpu") -> Checkpoint | None:
    """The kept checkpoint of the highest score that is whole; as `load_latest` otherwise."""
    return _first_whole(folder, sorted(saved(folder), key=_rank, reverse=True), device)


def load_latest(folder: Path, device: torch.device | str = "cpu") -> Checkpoint | None:
    """The newest checkpoint that is whole; None where none was ever saved.

    Passes over a corrupt one with a CheckpointWarning.

    Raises:
        UserError: where all are corrupt.
    """
    return _first_whole(folder, saved(folder)[::-1], device)


def _first_whole(folder: Path, paths: list[Path], device: torch.device | str) -> Checkpoint | None:
    for path in paths:
        try:
            return load(path, device)
        except CorruptCheckpointError as error:
            warnings.warn(f"{error}; taking the next one", CheckpointWarning, stacklevel=3)
    if paths:
        raise UserError(
            f"every checkpoint in {folder} is corrupt ({', '.join(p.name for p in paths)})\n"
            "move the run directory away to start it anew"
        )
    return None


def load(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Reads one checkpoint, its tensors onto `device`.

    Raises:
        CorruptCheckpointError: where a file is missing or is not the one that was saved.
        UserError: for a checkpoint of a later metarl.
    """
    digests = _digests(path / MANIFEST)
    contents = {}
    for name in (TENSORS, STATE):
        contents[name] = _read(path / name)
        expected, actual = digests.get(name), _digest(contents[name])
        if actual != expected:
            raise CorruptCheckpointError(
                f"{path / name} is corrupt: its SHA-256 is {actual}, saved was {expected}"
            )
    # From here on the bytes are those that were saved, so what they hold needs no checks.
    document = json.loads(contents[STATE])
    tensors = safetensors.torch.load(contents[TENSORS])
    score = math.nan if document["score"] is None else float(document["score"])
    on_device = {name: tensor.to(device) for name, tensor in tensors.items()}
    return Checkpoint(document["iteration"], on_device, document["state"], score, path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorruptCheckpointError(f"{path} cannot be read: {error.strerror}") from error


def _digests(path: Path) -> dict[str, str]:
    """File -> SHA-256, as a manifest says."""
    try:
        manifest = json.loads(_read(path))
        version, digests = int(manifest["format"]), dict(manifest["sha256"])
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptCheckpointError(f"{path} is corrupt: {error!r}") from error
    if version != FORMAT:
        raise UserError(
            f"{path} has format {version} and this metarl reads {FORMAT}; "
            "use the metarl that wrote it"
        )
    return digests
