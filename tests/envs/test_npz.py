"""Reading of an .npz file that may come from anywhere."""

from __future__ import annotations

import io
import os
import struct
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from metarl.config.settings import FewShotEnvConfig
from metarl.envs import npz
from metarl.envs.supervised.arrays import arrays, files
from metarl.errors import UserError
from metarl.runs import data

ARRAYS = {
    "inputs": np.arange(60, dtype=np.float64).reshape(20, 3),
    "columns": np.asfortranarray(np.arange(12, dtype=np.int32).reshape(3, 4)),
    "labels": np.arange(20),
    "one": np.array(3.5),
    "none": np.empty((0, 3), np.uint8),
    "swapped": np.arange(3, dtype=">i4"),
    "text": np.array(["a", "bc"]),
}


def all_of(path: Path) -> dict[str, np.ndarray]:
    return npz.read(path, lambda names: names)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_those_of_numpy(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = all_of(tmp_path / "a.npz")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_only_chosen_arrays_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", good=np.arange(3), bad=np.array([{}], object))
    assert list(npz.read(tmp_path / "a.npz", lambda names: names[:1])) == ["good"]


def member(header: str, content: bytes = b"", version: bytes = b"\1\0") -> bytes:
    text = header.encode()
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
    return b"\x93NUMPY" + version + length + text + content


def described(shape: str, kind: str = "'<f8'", order: str = "False") -> str:
    return f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


def packed(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, bytes_ in members:
            archive.writestr(name, bytes_)
    return content.getvalue()


def one(header: str, content: bytes = b"", **options) -> bytes:
    return packed(("inputs.npy", member(header, content)), **options)


ZEROS = b"\0" * (4 << 20)
HOSTILE = {
    "empty": (lambda: b"", "no zip file"),
    "array alone": (lambda: member(described("(1,)"), b"\0" * 8), "no zip file"),
    "huge shape": (lambda: one(described("(1000000000000,)")), "of other size"),
    "huge number": (lambda: one(described(f"({'9' * 900},)")), "of other size"),
    "negative": (lambda: one(described("(-1, -1)"), b"\0" * 8), "of other size"),
    "much": (lambda: one(described("(1,)"), b"\0" * 16), "of other size"),
    "little": (lambda: one(described("(2,)"), b"\0" * 8), "of other size"),
    "wide text": (lambda: one(described("(10000000000,)", "'<U0'")), "of type"),
    "objects": (lambda: one(described("(1,)", "'|O'"), b"\x80\4K\1."), "of type '|O'"),
    "structure": (lambda: one(described("(1,)", "[('a', '<f8')]"), b"\0" * 8), "of type"),
    "dates": (lambda: one(described("(1,)", "'<M8[s]'"), b"\0" * 8), "of type"),
    "nested": (lambda: one("(" * 4000), "plain arrays"),
    "code": (lambda: one("__import__('os').abort()"), "plain arrays"),
    "long header": (lambda: one(" " * 60_000), "a header of 60,000 bytes"),
    "wide header": (
        lambda: packed(("inputs.npy", member(" " * 10**6, version=b"\2\0"))),
        "a header of 1,000,000 bytes",
    ),
    "third version": (
        lambda: packed(("inputs.npy", member(" " * 9, version=b"\3\0"))),
        "no array of numpy's",
    ),
    "bomb": (
        lambda: one(described(f"({4 << 20},)", "'|u1'"), ZEROS, method=zipfile.ZIP_DEFLATED),
        "are the most for this file",
    ),
    "method": (lambda: one(described("(0,)"), method=zipfile.ZIP_LZMA), "does not write"),
    "names": (lambda: packed(*[(f"{i}.npy", b"") for i in range(300)]), "of members"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_at_once(tmp_path, name, monkeypatch):
    monkeypatch.setattr(npz, "SMALL", 1 << 20)
    monkeypatch.setattr(npz, "MOST_MEMBERS", 100)
    make, said = HOSTILE[name]
    path = tmp_path / "a.npz"
    path.write_bytes(make())
    began = time.process_time()
    with pytest.raises(UserError) as caught:
        all_of(path)
    assert time.process_time() - began < 3
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{path} is not an .npz file of plain arrays (")
    assert len(str(caught.value)) < 400 + len(str(path))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name(tmp_path):
    twice = member(described("(0,)"))
    (tmp_path / "a.npz").write_bytes(packed(("inputs.npy", twice), ("inputs.npy", twice)))
    with pytest.raises(UserError, match="two of its arrays have one name"):
        all_of(tmp_path / "a.npz")


def test_more_than_memory(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", **ARRAYS)
    monkeypatch.setattr(npz, "memory", lambda: 1000)
    with pytest.raises(UserError, match=r"declare 1,\d+ bytes, and 1,000 are the most"):
        all_of(tmp_path / "a.npz")
    with pytest.raises(UserError, match="more than the 1,000 bytes"):
        files(FewShotEnvConfig("arrays", path=str(tmp_path / "a.npz")))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_changed_bytes_give_the_arrays_or_one_error(tmp_path, save):
    rng, path = np.random.default_rng(0), tmp_path / "a.npz"
    save(path, **ARRAYS)
    whole = path.read_bytes()
    for trial in range(400):
        content = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            content[int(rng.integers(len(content)))] = int(rng.integers(256))
        path.write_bytes(content[: int(rng.integers(len(content)))] if trial % 4 == 0 else content)
        with suppress(UserError):
            for name, array in all_of(path).items():  # a change of a name is no fault
                assert any(same(array, other) for other in ARRAYS.values()), name


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)


def test_pipes_and_devices(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(UserError, match="no regular file"):
            all_of(place)
        with pytest.raises(UserError, match="no regular file"):
            data.hashed("arrays", place, {place.name: place})
        with pytest.raises(UserError, match="there is no file"):
            arrays(FewShotEnvConfig("arrays", path=str(place)), "")
