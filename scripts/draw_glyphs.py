"""Draws the picture of the few-shot tasks `glyphs` in docs/benchmarks.md.

    python scripts/draw_glyphs.py

A row is a script with five classes, and five images of each class.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from metarl.envs.supervised import glyph_cache, glyph_list

FILE = Path("docs/pictures/glyphs.png")
CLASSES, IMAGES = 5, 5
LEVELS = 16
"""Shades of gray, which keep the file small."""
GAP, NAME = 8, 80
"""Pixels between classes, and of a script's name."""


def row(characters: list[int], rng: np.random.Generator) -> np.ndarray:
    """Returns [28, width] uint8, ink dark: five images of five of the characters."""
    drawn = glyph_cache.drawn(sorted(rng.choice(characters, CLASSES, replace=False).tolist()))
    gap = np.full((drawn.shape[-1], GAP), 255, np.uint8)
    return np.hstack([x for some in drawn for x in (*(255 - some[:IMAGES]), gap)])


def picture() -> Image.Image:
    rng, scripts = np.random.default_rng(3), glyph_list.read()
    rows = np.vstack([row(characters, rng) for characters in scripts.values()])
    image = Image.new("L", (NAME + rows.shape[1], rows.shape[0]), 255)
    image.paste(Image.fromarray(rows), (NAME, 0))
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    font, pen = ImageFont.truetype(str(fonts / "DejaVuSans.ttf"), 14), ImageDraw.Draw(image)
    for place, script in enumerate(scripts):
        test = " *" if script in glyph_list.TEST else ""
        pen.text((4, rows.shape[0] // len(scripts) * place + 6), script + test, 0, font)
    return image.quantize(LEVELS)


if __name__ == "__main__":
    picture().save(FILE, optimize=True)
    print(f"picture  {FILE}, {FILE.stat().st_size:,} bytes")
