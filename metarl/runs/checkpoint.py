"""Saves and loads checkpoints; a crash leaves no half-written one, and loading verifies hashes.

    checkpoints/000100/  agent.safetensors  tensors
                         state.json         {"iteration", "score", "state"}
                         manifest.json      {"format", "iteration", "sha256": {file: digest}}

A checkpoint is written into a hidden folder, forced to the disk and renamed, so that a folder with
a number is complete. Tensors are safetensors and the rest is JSON: nothing is unpickled. Only
checkpoints that are verified (checkpoint_files.py) decide anything.
"""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metarl.errors import CheckpointWarning, CorruptCheckpointError, UserError
from metarl.runs.checkpoint_files import (
    MOST,
    TENSORS,
    claimed_score,
    is_checkpoint,
    read,
    tensors_of,
    written,
)
from metarl.runs.directory import RunDirectory
from metarl.runs.files import sync_folder, write_bytes
from metarl.types import MetaLearner

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
        except (ValueError, KeyError, TypeError, RuntimeError) as error:  # some of a user's code
            raise UserError(f"{self.path}: {error}{remedy}") from error


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
    contents = written(iteration, tensors, state, score)
    try:
        clean(folder)
        beside.mkdir()
        for name, content in contents.items():
            write_bytes(beside / name, content)
        sync_folder(beside)
        if os.path.lexists(target):
            os.rename(target, folder / f".{target.name}.old")
        os.rename(beside, target)
        sync_folder(folder)
        _prune(folder, iteration, room(len(contents[TENSORS])))
        clean(folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise UserError(f"no checkpoint can be saved to {target}: {error.strerror}") from error
    return target


def room(size: int) -> int:
    """Returns the bytes of tensors that are read for an agent that has `size` bytes of them."""
    return max(MOST, 4 * size)  # a rule may keep other statistics than when they were saved


def room_for(agent: MetaLearner) -> int:
    """Returns the bytes of tensors that are read for an agent."""
    return room(sum(x.numel() * x.element_size() for x in agent.state_dict().values()))


def saved(folder: Path) -> list[Path]:
    """Returns the checkpoints in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(filter(is_checkpoint, folder.iterdir()), key=lambda path: int(path.name))


def clean(folder: Path) -> None:
    """Removes what a killed process left; only the holder of the run's lock may call it."""
    for path in folder.glob(".*.old"):
        target = folder / path.name.removeprefix(".").removesuffix(".old")
        if is_checkpoint(path.with_name(target.name)) or not path.is_dir():
            _remove(path)
        elif not os.path.lexists(target):
            os.rename(path, target)  # killed between the two renames that replace a checkpoint
    for path in (*folder.glob(".*.new"), *folder.glob(".*.gone")):
        _remove(path)


def _remove(path: Path) -> None:
    """Removes a folder with its contents; of a link, the link alone."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)


def _prune(folder: Path, newest: int, most: int) -> None:
    """Removes checkpoints after `newest`, and intact ones but the last 2 and the best.

    Earlier ones that are not intact stay: another metarl may read them, and they decide nothing.
    """
    paths = saved(folder)
    ranks = {path: rank for path in paths if (rank := _rank(path, newest, most)) is not None}
    kept = {*list(ranks)[-KEEP_LAST:], *sorted(ranks, key=ranks.__getitem__)[-1:]}
    for path in paths:
        if int(path.name) > newest or path in ranks.keys() - kept:
            # Hidden first, because an interrupted removal must not leave half a checkpoint.
            hidden = folder / f".{path.name}.gone"
            os.rename(path, hidden)
            shutil.rmtree(hidden)


def _rank(path: Path, newest: int, most: int) -> tuple[float, int] | None:
    """Returns the sort key (score, iteration) of an intact checkpoint up to `newest`: of equal
    scores the newest is the best."""
    if int(path.name) > newest:
        return None
    try:
        score = read(path, most).score
    except CorruptCheckpointError:
        return None
    return -math.inf if score is None else score, int(path.name)


def best(folder: Path, device: torch.device | str = "cpu", most: int = MOST) -> Checkpoint | None:
    """Loads the intact checkpoint with the highest score; otherwise like `load_latest`."""
    # A score is a claim until its checkpoint is loaded; if that fails, the next claim is tried.
    claims = {path: (claimed_score(path), int(path.name)) for path in saved(folder)}
    return _first_whole(sorted(claims, key=claims.__getitem__, reverse=True), folder, device, most)


def load_latest(
    folder: Path, device: torch.device | str = "cpu", most: int = MOST
) -> Checkpoint | None:
    """Loads the newest intact checkpoint; returns None if none was ever saved.

    Warns with a CheckpointWarning for each corrupt one that it skips, or of another format.

    Args:
        folder: the run's `checkpoints`.
        device: the device of the tensors.
        most: bytes of tensors; a checkpoint with more counts as corrupt (`room_for`).

    Raises:
        UserError: if all are corrupt.
    """
    return _first_whole(saved(folder)[::-1], folder, device, most)


def chosen(
    run: RunDirectory, which: str, device: torch.device | str = "cpu", most: int = MOST
) -> Checkpoint:
    """Returns a run's "best" or its "latest" checkpoint.

    Raises:
        UserError: where it has none.
    """
    found = (best if which == "best" else load_latest)(run.checkpoints, device, most)
    if found is None:
        raise UserError(
            f"{run.root} has no checkpoint yet\n`metarl train --config "
            f"{quote(str(run.root / 'config.yaml'))}` trains on to its first\n"
            "if the run was moved without its checkpoints, move them too"
        )
    return found


def _first_whole(
    paths: list[Path], folder: Path, device: torch.device | str, most: int
) -> Checkpoint | None:
    reasons = []
    for path in paths:
        try:
            return load(path, device, most)
        except CorruptCheckpointError as error:
            reasons.append(str(error))
            warnings.warn(f"{error}; it is passed over", CheckpointWarning, stacklevel=3)
    if paths:
        names = ", ".join([path.name for path in paths[:4]] + ["..."] * (len(paths) > 4))
        raise UserError(
            f"every checkpoint in {folder} is corrupt ({names})\n{reasons[0]}\n"
            "move the run directory away to start it anew"
        )
    return None


def load(path: Path, device: torch.device | str = "cpu", most: int = MOST) -> Checkpoint:
    """Loads one checkpoint with its tensors on `device`; `most` bounds their bytes.

    Raises:
        CorruptCheckpointError: if a file is missing, differs from the saved one, or holds anything
            but a checkpoint of this metarl's format.
    """
    whole = read(path, most)
    tensors = tensors_of(whole.tensors, path / TENSORS, device)
    return Checkpoint(whole.iteration, tensors, whole.state, path)
