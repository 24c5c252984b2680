"""The files of one checkpoint: what is written, and what is believed of what is found.

A file counts only if it has the digest that the manifest keeps; the manifest counts only in the
very bytes that were written, and for the folder whose name is its iteration. Digests detect
accidents. Somebody who made the digests fit can still have put anything into the files, so their
contents are bounded and typed too.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from metarl import found
from metarl.config.ranges import MOST_WHOLE
from metarl.errors import CorruptCheckpointError, UserError
from metarl.text import shown

FORMAT = 1
TENSORS, STATE, MANIFEST = "agent.safetensors", "state.json", "manifest.json"
MOST = 1 << 26
"""Bytes of tensors that are read where nobody says how many an agent has."""
HEADER = found.SMALL
"""Bytes of a safetensors file's header, which names the tensors."""
NAME = re.compile(r"[0-9]{6}|[1-9][0-9]{6,18}")
"""Name of a checkpoint's folder: its iteration in six digits or more."""


class Verified(NamedTuple):
    """Contents of a checkpoint whose files are those that were saved."""

    iteration: int
    score: float | None
    """None where it was not finite."""
    state: dict[str, Any]
    tensors: bytes


def written(
    iteration: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], score: float
) -> dict[str, bytes]:
    """Returns the contents of a checkpoint's files by name, the manifest last.

    Raises:
        UserError: for more than is read again.
    """
    # Contiguous copies that share no memory, as safetensors requires.
    own = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    stored_score = float(score) if math.isfinite(score) else None
    document = {"iteration": iteration, "score": stored_score, "state": dict(state)}
    files = {
        TENSORS: safetensors.torch.save(own),
        STATE: (json.dumps(document, indent=1, allow_nan=False) + "\n").encode(),
    }
    if len(files[STATE]) > found.SMALL or _header(files[TENSORS]) > HEADER:
        raise UserError(f"the agent keeps more than {found.SMALL:,} bytes of names and counts")
    digests = {name: _digest(content) for name, content in files.items()}
    return {**files, MANIFEST: _manifest(iteration, digests)}


def _manifest(iteration: int, digests: Mapping[str, str]) -> bytes:
    manifest = {"format": FORMAT, "iteration": iteration, "sha256": dict(digests)}
    return (json.dumps(manifest, indent=1) + "\n").encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _header(tensors: bytes) -> int:
    """Returns the length of a safetensors file's header."""
    return struct.unpack("<Q", tensors[:8])[0] if len(tensors) >= 8 else 0


def read(path: Path, most: int = MOST) -> Verified:
    """Returns the contents of the checkpoint in the folder `path`, proven and typed.

    Args:
        path: the checkpoint's folder, named as its iteration.
        most: bytes of tensors; more are not read.

    Raises:
        CorruptCheckpointError: if a file is missing, differs from the saved one, has another
            format or holds anything but a checkpoint.
    """
    iteration, digests = _checked_manifest(path)
    contents = {}
    for name in (TENSORS, STATE):
        contents[name] = _content(path / name, most if name == TENSORS else found.SMALL)
        if (actual := _digest(contents[name])) != digests[name]:
            raise CorruptCheckpointError(
                f"{path / name} is corrupt: its SHA-256 is {actual}, saved was {digests[name]}"
            )
    document = _object(contents[STATE], path / STATE)
    score, state = document.get("score"), document.get("state")
    if document.keys() != {"iteration", "score", "state"} or not isinstance(state, dict):
        raise CorruptCheckpointError(f"{path / STATE} has other keys than iteration, score, state")
    if score is not None and not (type(score) in (int, float) and abs(score) < math.inf):
        raise CorruptCheckpointError(f"{path / STATE}: score is {shown(score)}, no finite number")
    if not _is(document["iteration"], iteration):
        raise CorruptCheckpointError(
            f"{path / STATE} is of iteration {shown(document['iteration'])}, not {iteration}"
        )
    return Verified(iteration, score, state, contents[TENSORS])


def claimed_score(path: Path) -> float:
    """Returns the score that a checkpoint claims, unproven; -inf for none."""
    score = _claimed(path).get("score")
    if isinstance(score, int | float) and -1e308 < score < 1e308:
        return float(score)
    return -math.inf


def claimed_state(path: Path) -> dict[str, Any]:
    """Returns the state that a checkpoint claims, unproven; empty for none."""
    state = _claimed(path).get("state")
    return state if isinstance(state, dict) else {}


def _claimed(path: Path) -> dict[str, Any]:
    try:
        return _object(_content(path / STATE, found.SMALL), path / STATE)
    except CorruptCheckpointError:
        return {}


def tensors_of(content: bytes, place: Path, device: torch.device | str) -> dict[str, Tensor]:
    """Returns the tensors in the bytes of a safetensors file.

    Raises:
        CorruptCheckpointError: where it is none.
    """
    if (header := _header(content)) > HEADER:
        raise CorruptCheckpointError(f"{place} has a header of {header:,} bytes; no agent's has")
    try:
        loaded = safetensors.torch.load(content)
    except MemoryError:
        raise  # the checkpoint is sound, and an earlier one would not help
    except Exception as error:  # the loader raises errors of many kinds
        raise CorruptCheckpointError(
            f"{place} holds no tensors: {shown(str(error) or type(error).__name__, 120)}"
        ) from None
    return {name: tensor.to(device) for name, tensor in loaded.items()}


def _checked_manifest(path: Path) -> tuple[int, dict[str, str]]:
    """Returns the iteration and file name -> SHA-256 in a manifest."""
    file = path / MANIFEST
    content = _content(file, found.SMALL)
    manifest = _object(content, file)
    version, iteration = manifest.get("format"), manifest.get("iteration")
    if not _is(version, FORMAT):
        raise CorruptCheckpointError(
            f"{file} has format {shown(version)} and this metarl reads {FORMAT}; "
            "use the metarl that wrote it"
        )
    digests = manifest.get("sha256")
    if not isinstance(iteration, int) or not isinstance(digests, dict):
        raise CorruptCheckpointError(f"{file} is corrupt: it names no iteration or no digests")
    if not 0 < iteration <= MOST_WHOLE or f"{iteration:06d}" != path.name:
        raise CorruptCheckpointError(f"{file} is corrupt: it is of iteration {shown(iteration)}")
    if digests.keys() != {TENSORS, STATE} or _manifest(iteration, digests) != content:
        raise CorruptCheckpointError(f"{file} is corrupt: its bytes are not those that were saved")
    return iteration, digests


def _is(value: Any, number: int) -> bool:
    return type(value) is int and value == number


def _object(content: bytes, file: Path) -> dict[str, Any]:
    try:
        # Not finite numbers were once written as NaN.
        return found.parsed(content, str(file), values=10_000, constants=True)
    except UserError as error:
        raise CorruptCheckpointError(f"{error}; it is corrupt") from None


def _content(file: Path, most: int) -> bytes:
    try:
        return found.read(file, most)
    except OSError as error:
        raise CorruptCheckpointError(f"{file} cannot be read: {error.strerror}") from error
    except UserError as error:
        raise CorruptCheckpointError(str(error)) from None


def is_checkpoint(path: Path) -> bool:
    """Returns whether a path is a folder with the name of a checkpoint, and no link to one."""
    named = NAME.fullmatch(path.name) is not None and path.name != "000000"
    return named and os.path.isdir(path) and not os.path.islink(path)
