"""A sample of the attacks of docs/reliability.md, whose table has all of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ATTACKS = 14
ROW = re.compile(r"^\| (.+?) \| ([\d,]+) of ([\d,]+) \|", re.M)


@pytest.mark.slow
def test_a_sample_of_the_attacks_finds_no_fault():
    command = [sys.executable, str(ROOT / "scripts" / "attack.py"), "--short"]
    found = subprocess.run(
        command, env=dict(os.environ), capture_output=True, text=True, timeout=600, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    rows = ROW.findall(found.stdout)
    assert len(rows) == ATTACKS
    for promise, held, tried in rows:
        assert held == tried, promise
        assert int(tried) or "disk" in promise  # a disk of one's own takes the right to mount it


def test_the_table_of_the_docs_has_every_attack():
    docs = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = ROW.findall(docs)
    assert len(rows) == ATTACKS
    assert [held for _, held, _ in rows] == [tried for *_, tried in rows]
