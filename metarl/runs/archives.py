"""Unpacks an archive of runs that may come from a stranger: .tar.gz, .tgz, .tar or .zip.

Only folders and regular files are unpacked, below one new folder, and only as many bytes as are
allowed, whatever the archive declares. Permissions, owners and times in it are left out.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, NamedTuple

from metarl.errors import UserError
from metarl.found import opened
from metarl.runs.files import NEW, open_own
from metarl.text import shown

ENDINGS = (".tar.gz", ".tgz", ".tar", ".zip")
MOST_BYTES = 1 << 30
"""Bytes of everything that is unpacked."""
MOST_MEMBERS = 20_000
"""Files and folders in an archive."""
MOST_AT_ONCE = 1 << 24
"""Bytes that are read at once; headers of an archive are smaller."""
CHUNK = 1 << 20


class Member(NamedTuple):
    """A file in an archive."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def unpacked(archive: Path, target: Path) -> Path:
    """Unpacks an archive into a folder that is not there yet; returns the folder.

    Raises:
        UserError: for a damaged archive, for anything in it but folders and files below the
            archive's own top, and for more than is allowed. Nothing is left in `target` then.
    """
    if target.exists() or target.is_symlink():
        raise UserError(f"{target} is there already; give another folder with --out")
    target.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".new", dir=target.parent))
    try:
        with _readable(archive), opened(archive) as file:
            members = _zipped if archive.name.lower().endswith(".zip") else _tarred
            _write(members(file, archive), half, archive)
        os.rename(half, target)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
    target.chmod(0o755)
    return target


def _write(members: Iterator[Member], root: Path, archive: Path) -> None:
    left = MOST_BYTES
    for member in members:
        if member.size > left:
            raise _too_large(archive)
        path = root / _safe(member.name, archive)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(open_own(path, os.O_WRONLY | NEW), "wb") as out, member.open() as content:
            while block := content.read(CHUNK):
                left -= len(block)
                if left < 0:
                    raise _too_large(archive)
                out.write(block)


def _safe(name: str, archive: Path) -> PurePosixPath:
    """Returns a member's path, which stays below the folder that it is unpacked into."""
    path = PurePosixPath(name)
    odd = "\\" in name or "\0" in name or not name.isprintable() or len(name) > 1000
    top = path.parts[0] if path.parts else ":"  # no name, or "." alone
    if odd or path.is_absolute() or ".." in path.parts or ":" in top:
        raise UserError(f"{archive} holds {shown(name)}, which may lie outside of it; not unpacked")
    return path


def _tarred(file: BinaryIO, archive: Path) -> Iterator[Member]:
    plain = archive.name.lower().endswith(".tar")
    stream: Any = _Bounded(file if plain else gzip.GzipFile(fileobj=file), archive)
    with tarfile.open(fileobj=stream, mode="r:") as tar:
        for number, info in enumerate(tar):
            _check_count(number, archive)
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                raise _no_file(info.name, archive)

            def content(info: tarfile.TarInfo = info) -> IO[bytes]:
                extracted = tar.extractfile(info)
                assert extracted is not None
                return extracted

            yield Member(info.name, info.size, content)


def _zipped(file: BinaryIO, archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(file) as packed:
        for number, info in enumerate(packed.infolist()):
            _check_count(number, archive)
            mode = info.external_attr >> 16
            if info.is_dir():
                continue
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise _no_file(info.filename, archive)

            def content(info: zipfile.ZipInfo = info) -> IO[bytes]:
                return packed.open(info)

            yield Member(info.filename, info.file_size, content)


class _Bounded:
    """A stream that refuses to read much at once, as for the header of a crafted archive, and to be
    read further than any archive that is allowed."""

    def __init__(self, stream: Any, archive: Path):
        self._stream, self._archive = stream, archive

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_AT_ONCE:
            raise _too_large(self._archive)
        self._check(self._stream.tell() + size)
        return self._stream.read(size)

    def seek(self, place: int, whence: int = 0) -> int:
        self._check(place)
        return self._stream.seek(place, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, place: int) -> None:
        if place > MOST_BYTES + MOST_MEMBERS * 2048:
            raise _too_large(self._archive)


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    """Turns what a damaged archive raises into a UserError."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise UserError(f"{archive} cannot be unpacked: {error or 'it is cut'}") from None
    except (RuntimeError, NotImplementedError) as error:  # an encrypted file, an odd compression
        raise UserError(f"{archive} cannot be unpacked: {error}") from None
    except FileExistsError as error:
        name = shown(Path(error.filename or "").name)
        raise UserError(f"{archive} holds {name} twice; not unpacked") from None


def _check_count(number: int, archive: Path) -> None:
    if number >= MOST_MEMBERS:
        raise UserError(f"{archive} holds more than {MOST_MEMBERS:,} files; not unpacked")


def _no_file(name: str, archive: Path) -> UserError:
    return UserError(f"{archive} holds {shown(name)}, a link or the like; not unpacked")


def _too_large(archive: Path) -> UserError:
    return UserError(f"{archive} holds more than {MOST_BYTES >> 20:,} MiB; not unpacked")
