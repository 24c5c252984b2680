"""Checks an image file's first bytes and structure before a decoder sees it.

A decoder takes time and memory by what a file declares, not by its size. These checks refuse files
whose declared parts are more than images have. They raise ValueError or struct.error.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

MOST_BYTES = 1 << 25
"""Bytes of a file."""
MOST_PARTS = 10_000
"""Chunks or blocks of a file before and between its pixels."""
MOST_SCANS = 100
"""Parts that each cost a pass over the file, such as a JPEG's scans; programs write about ten."""
MOST_VALUES = 1 << 18
"""Numbers in one tag of a TIFF."""
TIFF_SIZES = {1: 1, 2: 1, 6: 1, 7: 1}
"""Types of tags that stay bytes, and are not unpacked into numbers."""


def kind_of(content: bytes) -> str:
    """Returns Pillow's name of the format that a file's first bytes declare, after its checks."""
    for pattern, kind, check in _KINDS:
        if re.match(pattern, content, re.DOTALL):
            if check is not None:
                check(content)
            return kind
    known = sorted({kind for _, kind, _ in _KINDS})
    raise ValueError(f"its first bytes are none of {', '.join(known)}")


def _check_png(content: bytes) -> None:
    at = 8
    for _ in range(MOST_PARTS):
        if at + 8 > len(content):
            return
        (length,) = struct.unpack_from(">I", content, at)
        at += length + 12
    raise ValueError(f"more than {MOST_PARTS:,} chunks")


def _check_jpeg(content: bytes) -> None:
    if content.count(b"\xff\xda") > MOST_SCANS:
        raise ValueError(f"more than {MOST_SCANS} scans")
    if content.count(b"Exif\0\0") > MOST_SCANS:
        raise ValueError("too many blocks of EXIF data")
    at = 2
    for _ in range(MOST_PARTS):
        if at + 4 > len(content) or content[at : at + 2] == b"\xff\xda":
            return
        if content[at] != 0xFF or content[at + 1] in (0x00, 0x01, *range(0xD0, 0xDA), 0xFF):
            at += 1  # no segment: filling, or a marker alone
        else:
            (length,) = struct.unpack_from(">H", content, at + 2)
            at += 2 + max(length, 2)
    raise ValueError(f"more than {MOST_PARTS:,} segments before its pixels")


def _check_gif(content: bytes) -> None:
    """Walks over the blocks before the first image; what comes after it is not read."""
    flags = content[10]
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    for _ in range(MOST_PARTS):
        if at >= len(content) or content[at] in b"\x2c\x3b":  # an image, or the end
            return
        if content[at] == 0x21:
            at += 2
        at += content[at] + 1 if at < len(content) else 0
    raise ValueError(f"more than {MOST_PARTS:,} blocks before its image")


def _check_tiff(content: bytes) -> None:
    order = "<" if content[:1] == b"I" else ">"
    (start,) = struct.unpack_from(order + "I", content, 4)
    (count,) = struct.unpack_from(order + "H", content, start)
    for entry in range(count):
        at = start + 2 + 12 * entry
        tag, kind, values = struct.unpack_from(order + "HHI", content, at)
        if values > MOST_VALUES and kind not in TIFF_SIZES:
            raise ValueError(f"tag {tag} has {values:,} values")


def _check_ppm(content: bytes) -> None:
    """Checks that the size comes soon, and that there are few comments, which Pillow reads in a
    time that grows with the square of their number."""
    if not re.match(_PPM_SIZE, content[:MOST_PARTS]):
        raise ValueError(f"no size in its first {MOST_PARTS:,} bytes")
    if content[1:2] in b"123" and content.count(b"#") > MOST_SCANS:
        raise ValueError(f"more than {MOST_SCANS} comments")


_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_PPM_SIZE = rb"P[1-6]" + _GAP + rb"\d{1,9}" + _GAP + rb"\d{1,9}\s"
_KINDS: tuple[tuple[bytes, str, Callable[[bytes], None] | None], ...] = (
    (rb"\x89PNG\r\n\x1a\n", "PNG", _check_png),
    (rb"\xff\xd8\xff", "JPEG", _check_jpeg),
    (rb"GIF8[79]a.{4}", "GIF", _check_gif),
    (rb"BM", "BMP", None),
    (rb"P[1-6][\s#]", "PPM", _check_ppm),
    (rb"II\*\0|MM\0\*", "TIFF", _check_tiff),
    (rb"RIFF.{4}WEBPVP8", "WEBP", None),
)
