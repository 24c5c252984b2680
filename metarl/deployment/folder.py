"""Folders of saved policies: written whole or not at all, and read within bounds.

    policy/  policy.json  policy.safetensors  manifest.json (SHA-256 of both)

Nothing is pickled. Digests detect accidents; somebody may have made them fit, so what is read is
typed and bounded too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
import safetensors.numpy

from metarl import found
from metarl.errors import UserError
from metarl.runs.files import sync_folder, write_bytes
from metarl.text import shown

FORMAT = 1
DOCUMENT, TENSORS, MANIFEST = "policy.json", "policy.safetensors", "manifest.json"
LEARNER = "learner"
"""Kind of a document that describes a few-shot learner; the others are of policies."""
KINDS = (np.dtype(np.float32), np.dtype(np.float64))
"""Types of the numbers in a policy."""


class Saved(NamedTuple):
    """Contents of a saved policy whose files are those that were written."""

    document: dict[str, Any]
    tensors: dict[str, np.ndarray]


def refuse_taken(path: Path) -> None:
    """Raises a UserError where there is something at the path of a policy that is to be written."""
    if os.path.lexists(path):
        raise UserError(
            f"{path} exists already; a policy is written into a new folder\n"
            "give another path, or remove it first"
        )


def write(path: Path, document: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Path:
    """Writes a policy into the new folder `path`, and returns it.

    Raises:
        UserError: where the path exists, or cannot be written.
    """
    path = path.expanduser()
    refuse_taken(path)
    own = {name: np.ascontiguousarray(x) for name, x in tensors.items()}
    text = json.dumps({"format": FORMAT, **document}, indent=1, allow_nan=False) + "\n"
    files = {DOCUMENT: text.encode(), TENSORS: safetensors.numpy.save(own)}
    if max(len(files[DOCUMENT]), _header(files[TENSORS])) > found.SMALL:
        raise UserError(f"{path}: the policy has more than {found.SMALL:,} bytes of names")
    digests = {name: _digest(content) for name, content in files.items()}
    beside = path.parent / f".{path.name}.{uuid4().hex}.new"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
        for name, content in {**files, MANIFEST: _manifest(digests)}.items():
            write_bytes(beside / name, content)
        sync_folder(beside)
        refuse_taken(path)
        os.rename(beside, path)
        sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"no policy can be written to {path}: {error.strerror}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return path


def read(path: Path) -> Saved:
    """Returns the contents of the policy in the folder `path`, proven and typed.

    Raises:
        UserError: where it is none, or damaged.
    """
    path = path.expanduser()
    if not path.is_dir():
        raise UserError(
            f"{path} is no saved policy: there is no such folder\n"
            "adapted.save(path) writes one, or `metarl export RUN --out PATH`"
        )
    if not (path / MANIFEST).exists():
        run = (path / "config.yaml").exists()
        raise UserError(
            f"{path} is no saved policy: it has no {MANIFEST}\n"
            + ("it is a run: metarl.load(path) loads its agent" if run else "copy the whole folder")
        )
    manifest = _content(path / MANIFEST, found.SMALL)
    stated = _object(manifest, path / MANIFEST)
    if stated.get("format") != FORMAT or type(stated.get("format")) is not int:
        raise UserError(
            f"{path / MANIFEST} has format {shown(stated.get('format'))}, and this metarl reads "
            f"{FORMAT}\nuse the metarl that wrote it"
        )
    digests = stated.get("sha256")
    contents = {name: _content(path / name, most) for name, most in SIZES.items()}
    for name, content in contents.items():
        if not isinstance(digests, dict) or digests.get(name) != _digest(content):
            raise damaged(path / name, "its SHA-256 is not the one that was saved")
    return Saved(
        _object(contents[DOCUMENT], path / DOCUMENT),
        _tensors(contents[TENSORS], path / TENSORS),
    )


SIZES = {DOCUMENT: found.SMALL, TENSORS: found.LARGE}
"""Most bytes of each file."""


def damaged(place: Path, why: str) -> UserError:
    """Returns the error for a file that is not as it was saved."""
    return UserError(f"{place} is damaged: {why}\ncopy the policy's folder again, or save it anew")


def _manifest(digests: Mapping[str, str]) -> bytes:
    return (json.dumps({"format": FORMAT, "sha256": dict(digests)}, indent=1) + "\n").encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _header(tensors: bytes) -> int:
    return struct.unpack("<Q", tensors[:8])[0] if len(tensors) >= 8 else 0


def _object(content: bytes, place: Path) -> dict[str, Any]:
    try:
        return found.parsed(content, str(place), values=100_000)
    except UserError as error:
        raise damaged(place, str(error).splitlines()[0]) from None


def _content(file: Path, most: int) -> bytes:
    try:
        return found.read(file, most)
    except OSError as error:
        raise damaged(file, f"it cannot be read ({error.strerror})") from None


def _tensors(content: bytes, place: Path) -> dict[str, np.ndarray]:
    if _header(content) > found.SMALL:
        raise damaged(place, "its header is too long")
    try:
        loaded = safetensors.numpy.load(content)
    except MemoryError:
        raise
    except Exception as error:  # the loader raises errors of many kinds
        raise damaged(place, f"it holds no tensors ({shown(str(error), 80)})") from None
    for name, x in loaded.items():
        if x.dtype not in KINDS or not np.isfinite(x).all():
            raise damaged(place, f"{shown(name)} holds anything but finite numbers")
    return loaded
