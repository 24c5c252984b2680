"""Reads arrays of numbers from an .npz file that may come from anywhere, within bounds.

numpy's own reader allocates what a header declares. Here the sizes that the archive and the headers
declare must agree, and are checked before anything is allocated. Nothing is unpickled.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from metarl import found
from metarl.errors import UserError
from metarl.memory import available
from metarl.text import shown

KINDS = "biufSU"
"""Kinds of numpy's types that are read: numbers and text, no objects and no structures."""
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compressions that numpy writes."""
MOST_MEMBERS = 10_000
HEADER = 4096
"""Bytes of an array's header; numpy writes 128."""
CHUNK = 1 << 20
"""Bytes that are decompressed at once."""
SMALL = 1 << 28
"""Bytes of arrays that are read however well they are compressed."""
RATIO = 100
"""Most bytes of larger arrays for each byte of the file. A file of zeros has 1,000."""


def read(path: Path | str, chosen: Callable[[Sequence[str]], Sequence[str]]) -> dict[str, Any]:
    """Returns some of the arrays in an .npz file, by name.

    Args:
        path: the file; a link to a regular file is one.
        chosen: is given the names in the file, and returns those that are read.

    Raises:
        OSError: where there is no such file, or it may not be read.
        UserError: for what is no .npz file of plain arrays, and for more than memory holds.
    """
    with found.opened(path) as file:
        try:
            return _arrays(file, chosen)
        except UserError:
            raise
        except Exception as error:  # zipfile, zlib and numpy raise many kinds for a damaged file
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise UserError(f"{path} is not an .npz file of plain arrays ({why})") from None


def memory() -> int:
    """Returns the bytes of memory that this process can get."""
    limit = available()
    return sys.maxsize if limit is None else limit.bytes


def _arrays(
    file: BinaryIO, chosen: Callable[[Sequence[str]], Sequence[str]]
) -> dict[str, np.ndarray]:
    _check_directory(file)
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise ValueError("two of its arrays have one name")
        names = chosen(list(members))
        size = sum(members[name].file_size for name in names)
        most = min(memory(), max(SMALL, RATIO * os.fstat(file.fileno()).st_size))
        if size > most:
            raise ValueError(
                f"its arrays declare {size:,} bytes, and {most:,} are the most for this file and "
                "this machine"
            )
        return {name: _array(archive, members[name]) for name in names}


def _check_directory(file: BinaryIO) -> None:
    """Checks the number of members at the file's end, since zipfile reads them all."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 22))
    tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) < end + 22:
        raise ValueError("it is no zip file, or was cut")
    (length,) = struct.unpack_from("<I", tail, end + 12)
    if (wide := tail.rfind(b"PK\6\6", 0, end)) >= 0 and len(tail) >= wide + 48:
        (length,) = struct.unpack_from("<Q", tail, wide + 40)
    if length > 128 * MOST_MEMBERS:
        raise ValueError(f"a list of {length:,} bytes of members")


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    if info.compress_type not in COMPRESSIONS:
        raise ValueError(f"{shown(info.filename)} is compressed in a way that numpy does not write")
    with archive.open(info) as stream:
        shape, fortran, dtype, start = _header(stream)
        if dtype.kind not in KINDS or not dtype.itemsize:
            raise ValueError(f"{shown(info.filename)} has values of type {shown(dtype.str)}")
        count = int(np.prod([int(size) for size in shape], dtype=object)) if shape else 1
        if min(shape, default=0) < 0 or count * dtype.itemsize + start != info.file_size:
            raise ValueError(
                f"{shown(info.filename)} declares a shape {shown(shape)} of other size"
            )
        content = np.empty(count * dtype.itemsize, np.uint8)
        at = 0
        while chunk := stream.read(CHUNK):  # checks the CRC at the end
            content[at : at + len(chunk)] = np.frombuffer(chunk, np.uint8)
            at += len(chunk)
    if at != len(content):
        raise ValueError(f"{shown(info.filename)} was cut")
    flat = content.view(dtype)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Returns shape, whether columns come first, type and length of an array's header."""
    magic = stream.read(8)
    version = magic[6:8]
    if magic[:6] != b"\x93NUMPY" or version not in (b"\1\0", b"\2\0"):
        raise ValueError("a member that is no array of numpy's")
    prefix = stream.read(2 if version == b"\1\0" else 4)
    length = int.from_bytes(prefix, "little")
    if length > HEADER:
        raise ValueError(f"a header of {length:,} bytes")
    text = io.BytesIO(prefix + stream.read(length))
    if version == b"\1\0":
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(text)
    else:
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(text)
    return shape, fortran, dtype, len(magic) + len(prefix) + length
