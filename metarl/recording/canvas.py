"""Lays out panels and words as the frames of a film."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from metarl.text import printable

Colour = tuple[int, int, int]
INK, GREY, PAPER = (34, 34, 34), (107, 107, 107), (255, 255, 255)
GAP = 8
"""Pixels between panels."""


@cache
def font(size: int, bold: bool = False) -> Any:
    """Returns letters of a height in pixels: matplotlib's, which have the signs of many languages,
    or Pillow's own."""
    import matplotlib

    name = f"DejaVuSans{'-Bold' * bold}.ttf"
    place = Path(matplotlib.get_data_path()) / "fonts/ttf" / name
    try:
        return ImageFont.truetype(str(place), size)
    except (OSError, ImportError):
        return ImageFont.load_default(size)


class Panel(NamedTuple):
    """Panel of one frame."""

    image: np.ndarray  # [height, width, 3] uint8
    left: str
    right: str
    note: str


class Layout:
    """Frames of a grid of panels: rows are tasks, columns are numbers of adaptation steps."""

    def __init__(
        self,
        width: int,
        aspect: float,
        title: str,
        heads: Sequence[str],
        rows: Sequence[str],
        notes: bool,
    ):
        """`width` and `aspect` are those of a panel; `notes` leaves a line for panels' notes."""
        self.panel = width, max(1, round(width * aspect))
        self.title, self._heads, self._rows = title, heads, rows
        self.letters = max(10, min(18, width // 22))
        self._line = round(1.5 * self.letters)
        self._lines = 2 if notes else 1
        self._top = 2 * self._line + GAP
        self._row = self._line + self.panel[1] + self._lines * self._line + GAP
        across = len(heads) * (width + GAP) + GAP
        down = self._top + len(rows) * self._row
        # Video needs even sides.
        self.size = across + across % 2, down + down % 2

    def frame(self, panels: Sequence[Sequence[Panel]]) -> Image.Image:
        """Returns a frame of the panels [row][column]."""
        picture = Image.new("RGB", self.size, PAPER)
        draw = ImageDraw.Draw(picture)
        write = Writer(draw, self.letters)
        write(GAP, GAP, self.title, self.size[0] - 2 * GAP, INK)
        width, height = self.panel
        for column, head in enumerate(self._heads):
            write(self._x(column), GAP + self._line, head, width, INK, bold=True)
        for row, name in enumerate(self._rows):
            y = self._top + row * self._row
            write(GAP, y, name, self.size[0] - 2 * GAP, GREY)
            for column, panel in enumerate(panels[row]):
                x, below = self._x(column), y + self._line
                picture.paste(_fitted(panel.image, width, height), (x, below))
                below += height + 2
                write(x, below, panel.left, width, INK)
                write(x + width, below, panel.right, width // 2, GREY, anchor="ra")
                if self._lines > 1:
                    write(x, below + self._line, panel.note, width, GREY)
        return picture

    def _x(self, column: int) -> int:
        return GAP + column * (self.panel[0] + GAP)


def _fitted(image: np.ndarray, width: int, height: int) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(image))
    if picture.size == (width, height):
        return picture
    return picture.resize((width, height), Image.Resampling.LANCZOS)


class Writer:
    """Writes lines that are cut where they would be too wide."""

    def __init__(self, draw: ImageDraw.ImageDraw, size: int):
        self._draw, self._size = draw, size

    def __call__(
        self,
        x: float,
        y: float,
        text: str,
        most: float,
        colour: Colour,
        bold: bool = False,
        anchor: str = "la",
    ) -> None:
        letters = font(self._size, bold)
        text = " ".join(printable(text[:300]).split())
        if letters.getlength(text) > most:
            while text and letters.getlength(text + "...") > most:
                text = text[:-1]
            text += "..."
        self._draw.text((x, y), text, fill=colour, font=letters, anchor=anchor)
