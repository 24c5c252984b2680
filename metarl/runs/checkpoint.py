"""Saves and loads checkpoints; a crash leaves no half-written one, and loading verifies hashes.

    checkpoints/000100/  agent.safetensors  tensors
                         state.json         {"iteration", "score", "state"}
                         manifest.json      {"format", "iteration", "sha256": {file: digest}}

A checkpoint is written into a hidden folder, forced to the disk and renamed, so that a folder with
a number is complete. Tensors are safetensors and the rest is JSON: nothing is unpickled.
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
from shlex import quote
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from metarl.errors import CheckpointWarning, CorruptCheckpointError, UserError
from metarl.runs.directory import RunDirectory
from metarl.runs.files import sync_folder, write_bytes
from metarl.types import MetaLearner

FORMAT = 1
TENSORS, STATE, MANIFEST = "agent.safetensors", "state.json", "manifest.json"
KEEP_LAST = 2


class Checkpoint(NamedTuple):
    """Contents of a checkpoint saved after `iteration` meta-iterations."""

    iteration: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    path: Path

    def load_into(self, agent: MetaLearner, remedy: str = "") -> None:
        """Gives an agent the saved weights.

        Raises:
            UserError: where they are another agent's; the message ends with `remedy`.
        """
        try:
            agent.load_state_dict(self.tensors)
        except ValueError as error:
            raise UserError(f"{self.path}: {error}{remedy}") from None


def save(
    folder: Path,
    iteration: int,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    score: float,
) -> Path:
    """Saves a checkpoint and removes those no longer kept; the last 2 and the best stay.

    Args:
        folder: the run's `checkpoints`; only the holder of the run's lock may save into it.
        iteration: meta-iterations done. Checkpoints of later iterations are removed: they remain
            from before the run was continued from an earlier one.
        tensors: by name, any dtype and device.
        state: anything else that JSON can store.
        score: higher is better; a score that is not finite is never the best.

    Raises:
        UserError: if it can't be written, as on a full disk.
    """
    target = folder / f"{iteration:06d}"
    beside = folder / f".{target.name}.new"
    try:
        clean(folder)
        beside.mkdir()
        for name, content in _files(iteration, tensors, state, score).items():
            write_bytes(beside / name, content)
        sync_folder(beside)
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


def _files(
    iteration: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], score: float
) -> dict[str, bytes]:
    """Returns the contents of a checkpoint's files by name, the manifest last."""
    # Contiguous copies that share no memory, as safetensors requires.
    own = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    stored_score = score if math.isfinite(score) else None
    document = {"iteration": iteration, "score": stored_score, "state": dict(state)}
    files = {
        TENSORS: safetensors.torch.save(own),
        STATE: (json.dumps(document, indent=1) + "\n").encode(),
    }
    digests = {name: _digest(content) for name, content in files.items()}
    manifest = {"format": FORMAT, "iteration": iteration, "sha256": digests}
    return {**files, MANIFEST: (json.dumps(manifest, indent=1) + "\n").encode()}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def saved(folder: Path) -> list[Path]:
    """Returns the checkpoints in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    numbered = [path for path in folder.iterdir() if path.name.isdigit() and path.is_dir()]
    return sorted(numbered, key=lambda path: int(path.name))


def clean(folder: Path) -> None:
    """Removes what a killed process left; only the holder of the run's lock may call it."""
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
        # Hidden first, because an interrupted removal must not leave half a checkpoint.
        hidden = folder / f".{path.name}.gone"
        os.rename(path, hidden)
        shutil.rmtree(hidden)


def _rank(path: Path) -> tuple[float, int]:
    """Returns the sort key (score, iteration): of equal scores the newest is the best."""
    try:
        score = json.loads((path / STATE).read_bytes())["score"]
        return (-math.inf if score is None else float(score)), int(path.name)
    except (OSError, ValueError, TypeError, KeyError):  # corrupt: the first to be removed
        return -math.inf, -1


def best(folder: Path, device: torch.device | str = "cpu") -> Checkpoint | None:
    """Loads the intact checkpoint with the highest score; otherwise like `load_latest`."""
    return _first_whole(folder, sorted(saved(folder), key=_rank, reverse=True), device)


def load_latest(folder: Path, device: torch.device | str = "cpu") -> Checkpoint | None:
    """Loads the newest intact checkpoint; returns None if none was ever saved.

    Warns with a CheckpointWarning for each corrupt one that it skips.

    Raises:
        UserError: if all are corrupt.
    """
    return _first_whole(folder, saved(folder)[::-1], device)


def chosen(run: RunDirectory, which: str, device: torch.device | str = "cpu") -> Checkpoint:
    """Returns a run's "best" or its "latest" checkpoint.

    Raises:
        UserError: where it has none.
    """
    found = (best if which == "best" else load_latest)(run.checkpoints, device)
    if found is None:
        raise UserError(
            f"{run.root} has no checkpoint yet\n`python -m metarl.train --config "
            f"{quote(str(run.root / 'config.yaml'))}` trains on to its first\n"
            "if the run was moved without its checkpoints, move them too"
        )
    return found


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
    """Loads one checkpoint with its tensors on `device`.

    Raises:
        CorruptCheckpointError: if a file is missing or differs from the saved one.
        UserError: if another version of metarl wrote it in another format.
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
    # The bytes are now known to be the saved ones, so their contents need no checks.
    document = json.loads(contents[STATE])
    tensors = safetensors.torch.load(contents[TENSORS])
    on_device = {name: tensor.to(device) for name, tensor in tensors.items()}
    return Checkpoint(document["iteration"], on_device, document["state"], path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorruptCheckpointError(f"{path} cannot be read: {error.strerror}") from error


def _digests(path: Path) -> dict[str, str]:
    """Reads file name -> SHA-256 from a manifest."""
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
