"""Reading of files that may come from anywhere."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from metarl import found
from metarl.errors import UserError


def test_a_regular_file_is_read(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"12345")
    assert found.read(tmp_path / "a", most=5) == b"12345"


def test_a_file_that_is_too_large(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"12345")
    with pytest.raises(UserError, match="more than the 4 bytes"):
        found.read(tmp_path / "a", most=4)


def test_a_pipe_does_not_hang(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    started = time.monotonic()
    with pytest.raises(UserError, match="pipe is no regular file"):
        found.read(tmp_path / "pipe")
    assert time.monotonic() - started < 1


def test_a_device_and_a_folder(tmp_path: Path):
    for place in ("/dev/zero", tmp_path):
        with pytest.raises(UserError, match="no regular file"):
            found.read(place)


def test_a_file_of_a_wrong_stated_size_is_bounded_too():
    with pytest.raises(UserError, match="more than the 10 bytes"):
        found.read("/proc/self/maps", most=10)  # its size is stated as 0


def test_a_missing_file_is_an_os_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        found.read(tmp_path / "none")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "not JSON"),
        (b"[1]", "no JSON object"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": 1, "a": 2}', "'a' comes twice"),
        (b'{"x": {"a": 1, "a": 2}}', "'a' comes twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "nested too deeply"),
        (b'{"a": ' + b"[" * 200_000, "nested too deeply"),
        (b'{"a": "\xff"}', "not JSON"),
        (b'{"a": [' + b"[]," * 50 + b"[]]}", "more than the 99 values"),
    ],
)
def test_what_is_no_json_object(content: bytes, fault: str):
    with pytest.raises(UserError, match=fault) as caught:
        found.parsed(content, "somewhere", values=99 if b"[]," in content else found.VALUES)
    assert str(caught.value).startswith("somewhere ")
    assert len(str(caught.value)) < 300


def test_a_json_object():
    assert found.parsed(b'{"a": [1, 2.5, null, "x"]}', "x") == {"a": [1, 2.5, None, "x"]}
