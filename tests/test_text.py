"""Text that is safe to show."""

from __future__ import annotations

import io
import os
import sys

import pytest

from metarl.text import printable, say, shown


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("runs/x", "runs/x"),
        ("zwei\nZeilen\tä 学", "zwei\nZeilen\tä 学"),
        ("\x1b[31mred\x07\r", "\\x1b[31mred\\x07\\x0d"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        (os.fsdecode(b"a\xff"), "a\\xff"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_printable(text: str, safe: str):
    assert printable(text) == safe
    printable(text).encode()  # no lone surrogate is left


def test_shown():
    assert shown("a" * 1000) == "'" + "a" * 56 + "..."
    assert shown(10**5000) == "a whole number of some 5001 digits"
    assert shown([10**5000]) == "a list"
    assert shown(list(range(1000))) == "list of 1000 items"
    assert shown("\x1b") == "'\\x1b'"
    assert shown(3) == "3"


def test_say_on_a_terminal_that_only_knows_ascii(monkeypatch: pytest.MonkeyPatch):
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    say("runs/ä\x1b", 3)
    ascii_only.flush()
    assert ascii_only.buffer.getvalue() == b"runs/\\xe4\\x1b 3\n"  # pyright: ignore
