"""The images of `glyphs`, drawn once and kept in a file of plain numbers.

The file's name is a hash of everything that the images depend on: the drawing, the characters,
the fonts, and the versions of matplotlib, FreeType and numpy. Its first line has a SHA-256 of that
and of the pixels. A file that does not agree with it is made again. It is written beside its place
and renamed, so of two processes that draw at once the last one replaces the first one's equal file.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import ft2font

from metarl import found
from metarl.envs.cache_folder import cache_folder
from metarl.envs.supervised import glyph_drawing as drawing
from metarl.errors import UserError
from metarl.runs.files import replace_bytes
from metarl.text import say

FORMAT = 1
"""Version of the drawing and of the file; change it whenever an image changes."""
START = b"metarl glyphs SHA-256 "
SECONDS = 5.0
"""Time between progress lines, s."""


def images(characters: Sequence[int]) -> np.ndarray:
    """Returns the images of some characters [C, IMAGES, SIDE, SIDE] uint8, from the cache if they
    are there."""
    if (folder := cache_folder()) is None:
        say(
            "there is no home folder, so the images of glyphs are not kept; set METARL_CACHE",
            error=True,
        )
        return drawn(characters)
    made_from = _made_from(characters)
    path = folder / f"glyphs-{hashlib.sha256(made_from).hexdigest()[:16]}.images"
    shape = (len(characters), drawing.IMAGES, drawing.SIDE, drawing.SIDE)
    try:
        return _read(path, made_from, shape)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, UserError) as error:
        say(f"{path} is not used ({error}); the images are drawn again", error=True)
    made = drawn(characters)
    _write(path, made_from, made)
    return made


def drawn(characters: Sequence[int]) -> np.ndarray:
    """Draws the images of some characters, [C, IMAGES, SIDE, SIDE] uint8."""
    faces, pen, printed = drawing.faces(), drawing.Pen(), time.monotonic()
    made = np.empty((len(characters), drawing.IMAGES, drawing.SIDE, drawing.SIDE), np.uint8)
    for place, character in enumerate(characters):
        made[place] = drawing.images(character, faces, pen)
        if time.monotonic() - printed > SECONDS:
            say(f"glyphs: {place + 1} of {len(characters)} characters drawn", error=True)
            printed = time.monotonic()
    return made


def digest(pixels: np.ndarray) -> str:
    """Returns the SHA-256 of images."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def made_with() -> str:
    """Returns the versions of what draws."""
    return f"matplotlib {matplotlib.__version__}, FreeType {ft2font.__freetype_version__}"


def _made_from(characters: Sequence[int]) -> bytes:
    """Returns everything that the images depend on."""
    fonts = [hashlib.sha256(file.read_bytes()).hexdigest() for file in drawing.files()]
    return json.dumps([FORMAT, made_with(), np.__version__, fonts, list(characters)]).encode()


def _first_line(made_from: bytes, pixels: bytes) -> bytes:
    together = hashlib.sha256(made_from + b"\n" + pixels).hexdigest()
    return START + together.encode() + b"\n"


def _read(path: Path, made_from: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the images that `_write` wrote; raises OSError or a UserError for any other file."""
    size = int(np.prod(shape))
    with found.opened(path) as file:
        about = os.fstat(file.fileno())
        if about.st_uid not in (os.geteuid(), 0) or about.st_mode & stat.S_IWOTH:
            raise UserError("another user may have written it")
        content = file.read(size + 2 * len(START) + 64)
    line, _, pixels = content.partition(b"\n")
    if len(pixels) != size or line + b"\n" != _first_line(made_from, pixels):
        raise UserError("its content is not what was written there")
    return np.frombuffer(pixels, np.uint8).reshape(shape)


def _write(path: Path, made_from: bytes, made: np.ndarray) -> None:
    """Writes the file in one step; if that fails, says why, and the next start draws again."""
    pixels = made.tobytes()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_bytes(path, _first_line(made_from, pixels) + pixels)
    except (OSError, UserError) as error:
        why = f"{path} cannot be written ({getattr(error, 'strerror', None) or error})"
        say(f"{why}, so the images of glyphs are not kept; set METARL_CACHE", error=True)
