"""One image file that may come from anywhere: read, or refused with one error, within bounds."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metarl.envs.supervised import picture_bounds
from metarl.envs.supervised.picture import picture
from metarl.errors import UserError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
PNG = b"\x89PNG\r\n\x1a\n"


def saved(kind: str, side: int = 8, **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **options)
    return content.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    rows = zlib.compress(b"\0" * (1 + 4 * 4) * 4)
    return PNG + header + b"".join(chunks) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff(*tags: tuple[int, int, int, int]) -> bytes:
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 500


FLAT = ((256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, 8), (262, 3, 1, 1))
JPEG = saved("JPEG")
SCAN = JPEG[JPEG.rindex(b"\xff\xda") : -2]
GIF, BMP = saved("GIF"), saved("BMP")
TABLE = 13 + 3 * 2 ** ((GIF[10] & 7) + 1)
HOSTILE = {
    "postscript": (POSTSCRIPT, "none of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP"),
    "postscript for dos": (b"\xc5\xd0\xd3\xc6" + POSTSCRIPT, "none of BMP"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "none of BMP"),
    "many pixels": (png(5000, 5000), "5000 x 5000 pixels; 16,777,216"),
    "more pixels": (png(12_000, 12_000), "pixels"),
    "most pixels": (png(2**31 - 1, 2**31 - 1), "pixels"),
    "no pixels": (png(0, 0), r"\("),
    "profile": (png(4, 4, chunk(b"iCCP", b"x\0\0" + zlib.compress(b"\0" * 2**24))), "too large"),
    "text": (png(4, 4, *[chunk(b"zTXt", b"x\0\0" + zlib.compress(b"\0" * 2**20))] * 70), "text"),
    "chunks": (png(4, 4, chunk(b"aaAa", b"") * 20_000), "10,000 chunks"),
    "scans": (JPEG[:-2] + SCAN * 200 + b"\xff\xd9", "100 scans"),
    "segments": (JPEG[:2] + b"\xff\xe0\0\2" * 20_000 + JPEG[2:], "10,000 segments"),
    "filling": (JPEG[:2] + b"\xff\0" * 20_000 + JPEG[2:], "10,000 segments"),
    "exif": (JPEG[:2] + b"\xff\xe1\0\x08Exif\0\0" * 200 + JPEG[2:], "EXIF"),
    "comments": (GIF[:TABLE] + b"\x21\xfe\1a\0" * 20_000 + GIF[TABLE:], "10,000 blocks"),
    "canvas": (GIF[:6] + b"\xff\xff\xff\xff" + GIF[10:], "pixels"),
    "bitmap": (BMP[:18] + struct.pack("<ii", 60_000, 60_000) + BMP[26:], "pixels"),
    "slow": (b"P2 1000 1000 255\n" + b"1 " * 10**6, "262,144"),
    "slow too": (b"P6 1000 1000 1023\n" + b"\0" * 6 * 10**6, "262,144"),
    "remarks": (b"P2 4 4 255\n" + b"#\n" * 10**5, "comments"),
    "long remark": (b"P5 #" + b"x" * 10**5 + b"\n4 4 255\n" + b"\0" * 16, "no size"),
    "tile": (tiff(*FLAT, (259, 3, 1, 8), (322, 4, 1, 65520), (323, 4, 1, 65520)), "pixels"),
    "values": (tiff(*FLAT, (259, 3, 1, 1), (273, 4, 8 * 10**6, 100)), "8,000,000 values"),
    "inside": (tiff(*FLAT, (259, 3, 1, 7), (273, 4, 1, 200), (279, 4, 1, 100)), "by jpeg"),
    "ends": (tiff(*FLAT)[:30], "cannot be read"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_at_once(tmp_path, name):
    content, said = HOSTILE[name]
    file = tmp_path / "image.png"
    file.write_bytes(content)
    began = time.process_time()
    with pytest.raises(UserError, match=said) as caught:
        picture(file, 4, gray=False)
    assert time.process_time() - began < 3
    assert str(caught.value).startswith(f"{file} cannot be read as an image (")
    assert len(str(caught.value)) < 300 + len(str(file))


def test_no_other_plugin_of_pillows_is_asked(tmp_path, monkeypatch):
    """A PostScript file would be given to another program, Ghostscript."""
    asked = []
    for kind in ("EPS", "FLI", "PSD", "ICNS"):
        Image.init()
        opener = (lambda *_, name=kind: asked.append(name), None)
        monkeypatch.setitem(Image.OPEN, kind, opener)
    file = tmp_path / "image.png"
    for content in (POSTSCRIPT, b"8BPS\0\1" + b"\0" * 30, b"icns" + b"\0" * 30):
        file.write_bytes(content)
        with pytest.raises(UserError):
            picture(file, 4, gray=False)
    assert not asked


@pytest.mark.parametrize("kind", FORMATS)
def test_changed_bytes_give_an_image_or_one_error(tmp_path, kind):
    """A few hundred files, of one or many changed bytes, cut or repeated."""
    rng, file = np.random.default_rng(1), tmp_path / "image"
    whole = saved(kind)
    for trial in range(300):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 2 + trial % 12)):
            place = int(rng.integers(40 if trial % 2 else len(content)))
            content[place] = rng.integers(256) if place % 2 else 255 * (trial % 3 // 2)
        if trial % 5 == 0:
            del content[int(rng.integers(len(content))) :]
        if trial % 7 == 0:
            content = content * 2
        file.write_bytes(content)
        with suppress(UserError):
            assert picture(file, 4, gray=bool(trial % 2)).shape[1:] == (4, 4)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_first_bytes_decide_and_not_the_name(tmp_path, kind):
    file = tmp_path / "image.xyz"
    file.write_bytes(saved(kind))
    assert picture(file, 8, gray=False).shape == (3, 8, 8)


def test_of_an_animation_the_first_picture_is_read(tmp_path):
    file = tmp_path / "image.gif"
    one, other = (Image.new("L", (4, 4), shade) for shade in (10, 200))
    one.save(file, save_all=True, append_images=[other, other])
    assert (picture(file, 4, gray=True) == 10).all()


def test_links_are_read_and_pipes_and_devices_are_not(tmp_path):
    (tmp_path / "real.png").write_bytes(saved("PNG"))
    (tmp_path / "link.png").symlink_to("real.png")
    real, link = (picture(tmp_path / name, 8, gray=False) for name in ("real.png", "link.png"))
    assert np.array_equal(real, link)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        with pytest.raises(UserError, match=f"{name} is no regular file"):
            picture(tmp_path / name, 8, gray=False)


def test_a_large_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("metarl.envs.supervised.picture.MOST_BYTES", 100)
    (tmp_path / "image.png").write_bytes(saved("PNG"))
    with pytest.raises(UserError, match="more than the 100 bytes"):
        picture(tmp_path / "image.png", 8, gray=False)
    assert picture_bounds.MOST_BYTES > 1 << 24


def test_the_largest_image_takes_little_memory(tmp_path):
    """4096 x 4096 pixels with transparency, the most that are read, from a small file."""
    rows = zlib.compressobj()
    packed = b"".join(rows.compress(b"\0" * (1 + 4 * 4096)) for _ in range(4096)) + rows.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4096, 4096, 8, 6, 0, 0, 0))
    file = tmp_path / "image.png"
    file.write_bytes(PNG + header + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from metarl.envs.supervised.picture import picture\n"
        "peak = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "before = peak()\npicture(Path(sys.argv[1]), 8, False)\nprint(peak() - before)"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of memory is read from Linux's files")
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 250_000, "kB"
