"""Output that is closed, full or of another encoding, and disks that are full."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from metarl.runs.board import Board
from metarl.runs.files import append_bytes

ROOT = Path(__file__).resolve().parents[1]


def shell(command: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of /bin/sh, in which $P is Python."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "P": sys.executable}
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment | more, capture_output=True, text=True
    )


def test_a_full_output_is_an_error(tmp_path: Path):
    found = shell("$P -m metarl.report --help > /dev/full", tmp_path)
    assert found.returncode == 2
    assert found.stderr == "error: standard output: No space left on device\n"
    assert shell("$P -m metarl.report --help >/dev/full 2>/dev/full", tmp_path).returncode == 2


def test_closed_streams_are_opened_before_a_file_gets_their_numbers(tmp_path: Path):
    code = (
        "import os, sys; from metarl.config.door import open_door\n"
        "def main(argv):\n"
        "    print('lost'); print('lost', file=sys.stderr); os.write(1, b'x'); os.write(2, b'x')\n"
        "    with open('file', 'w') as file: file.write(f'{file.fileno()}')\n"
        "open_door(main)\n"
    )
    (tmp_path / "main.py").write_text(code)
    assert shell("$P main.py <&- >&- 2>&-", tmp_path).returncode == 0
    assert int((tmp_path / "file").read_text()) > 2


def test_names_of_any_bytes_are_shown_escaped(tmp_path: Path):
    for more in ({"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "0", "LC_ALL": "C"}):
        command = r"$P -m metarl.report $(printf 'a\377\033[31m\303\244')"
        found = shell(command, tmp_path, **more)
        assert found.returncode == 2
        assert r"a\xff\x1b[31m" in found.stderr
        assert "\x1b" not in found.stderr
        assert "Traceback" not in found.stderr


def test_a_file_that_cannot_grow_stays_whole_and_is_named(tmp_path: Path):
    path = tmp_path / "log"
    append_bytes(path, b"whole\n")
    board = Board(tmp_path / "board")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match="too large") as found:
            append_bytes(path, b"half of it\n")
        with pytest.raises(OSError, match="too large") as of_board:
            board.append(1, {"x": 0.0})
        board.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert found.value.errno == errno.EFBIG
    assert found.value.filename == str(path)
    assert "events.out" in of_board.value.filename
    assert path.read_bytes() == b"whole\n"
