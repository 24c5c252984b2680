"""Reads one image file that may come from anywhere, within bounds of time and memory.

The format is one of those of picture_bounds.py, by the file's first bytes and not by its name, and
Pillow loads no other plugin. The number of pixels is checked before they are decoded. Of an
animation the first picture is read.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from metarl import found
from metarl.envs.supervised.picture_bounds import MOST_BYTES, kind_of
from metarl.errors import UserError

MOST_PIXELS = {"WEBP": 1 << 23}
"""Pixels of an image by its format; each takes 10 to 40 bytes of memory while it is read."""
OTHER_PIXELS = 1 << 24
"""Pixels of an image of the other formats."""
SLOW_PIXELS = 1 << 18
"""Pixels where Pillow decodes each in Python."""
SLOW = ("ppm", "ppm_plain", "bmp_rle")
"""Pillow's decoders that are written in Python."""
TIFF_COMPRESSIONS = frozenset(
    "raw group3 group4 tiff_ccitt tiff_lzw tiff_adobe_deflate tiff_deflate packbits".split()
)
"""Others hold another format inside, such as JPEG."""
GRAY = ("1", "L", "LA")
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow modes of more than 8 bits; Pillow would clip them to 8 bits without scaling."""
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How a viewer turns a photograph, by the value of its EXIF tag."""
ROWS = 256
"""Rows that are put on paper at once."""


def picture(file: Path, size: int, gray: bool) -> np.ndarray:
    """Returns one image as a viewer shows it, resized: [channels, size, size] uint8.

    Raises:
        UserError: for a file that is no image of a known format, or beyond the bounds.
    """
    try:
        content = found.read(file, MOST_BYTES)
        with warnings.catch_warnings():
            # Pillow warns of data that it leaves out; here only pixels count.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            small, mode = _small(content, size, gray)
    except UserError:
        raise
    except UnidentifiedImageError:
        raise _unreadable(file, "its header is damaged") from None
    except Exception as error:  # Pillow's plugins raise many kinds of errors for damaged files
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise _unreadable(file, why) from None
    if mode in DEEP:
        raise UserError(
            f"{file} has more than 8 bits in a channel (mode {mode}); save it as 8-bit gray or RGB"
        )
    pixels = np.asarray(small)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _unreadable(file: Path, why: str) -> UserError:
    return UserError(f"{file} cannot be read as an image ({why}); replace it, or take it out")


def _small(content: bytes, size: int, gray: bool) -> tuple[Image.Image, str]:
    """Returns the image in `content`, resized, and its mode in the file."""
    image = Image.open(io.BytesIO(content), formats=[kind_of(content)])
    _check_size(image)
    mode = image.mode
    image.load()  # before EXIF data are read: a TIFF is turned as it is loaded
    kind = "L" if gray or mode in GRAY else "RGB"
    image = _on_paper(_turned(image)).convert(kind)
    return image.resize((size, size), Image.Resampling.LANCZOS), mode


def _check_size(image: Image.Image) -> None:
    """Checks what a header declares, before anything is decoded."""
    pixels, most = image.width * image.height, MOST_PIXELS.get(image.format or "", OTHER_PIXELS)
    if image.format == "TIFF":
        if (compression := image.info.get("compression")) not in TIFF_COMPRESSIONS:
            raise ValueError(f"a TIFF compressed by {compression}")
        tags = image.tag_v2  # pyright: ignore[reportAttributeAccessIssue]
        pixels = max(pixels, int(tags.get(322, 0)) * int(tags.get(323, 0)))  # those of a tile
    if any(tile[0] in SLOW for tile in getattr(image, "tile", ())):
        most = SLOW_PIXELS
    if pixels > most:
        raise ValueError(
            f"{image.width} x {image.height} pixels; {most:,} pixels are the most for it"
        )


def _turned(image: Image.Image) -> Image.Image:
    """Returns an image turned as its EXIF data say."""
    turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def _on_paper(image: Image.Image) -> Image.Image:
    """Returns an image with white paper where it is transparent."""
    if not image.has_transparency_data:
        return image
    drawn = image.convert("RGBA")
    for top in range(0, drawn.height, ROWS):  # few rows at a time take little memory
        box = (0, top, drawn.width, min(top + ROWS, drawn.height))
        part = drawn.crop(box)
        drawn.paste(Image.alpha_composite(Image.new("RGBA", part.size, "white"), part), box)
    return drawn.convert("RGB")
