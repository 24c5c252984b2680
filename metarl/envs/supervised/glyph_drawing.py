"""Draws characters of matplotlib's DejaVu fonts as 28 x 28 images.

An image is a glyph's outline, in whole units of the font and without hinting, under a random affine
transformation, filled by Agg, the rasteriser inside matplotlib. So neither a display nor FreeType's
own rasteriser has a part in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib import ft2font
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.path import Path as Outline
from matplotlib.transforms import IdentityTransform

from metarl.errors import UserError

SIDE = 28
"""Pixels along each side of an image, as published for Omniglot (arXiv:1606.04080)."""
INK = 20.0
"""Pixels of the longer side of a glyph before its random size."""
IMAGES = 20
"""Images of a class, as many as Omniglot's drawers."""
LEAST_FACES = 4
"""Faces that a character needs to be a class."""
TURN = 12.0
"""Largest rotation, degrees."""
SHEAR = 0.15
"""Largest horizontal shear."""
SIZES = (0.8, 1.1)
"""Smallest and largest factor of each axis."""
SHIFT = 2.0
"""Largest shift along each axis, pixels."""
GRID = 4096.0
"""Entries of a matrix are whole multiples of 1 / GRID: processors whose sine differs in the last
bit then have the same outlines."""
_STYLES = {"Sans": "Oblique", "SansMono": "Oblique", "Serif": "Italic"}
FACES = tuple(
    f"DejaVu{family}{style}.ttf"
    for family, slanted in _STYLES.items()
    for style in ("", "-Bold", f"-{slanted}", f"-Bold{slanted}")
)
"""The fonts' files; each is a face."""


class Glyph(NamedTuple):
    """An outline of one face."""

    vertices: np.ndarray
    """[n, 2] in units of the font, y upwards."""
    codes: np.ndarray
    """[n] kinds of segments, as `matplotlib.path.Path` has them."""


class Face:
    """One font file of matplotlib's."""

    def __init__(self, file: Path):
        self.font: Any = ft2font.FT2Font(str(file))
        # One pixel is one unit of the font, so an outline consists of whole numbers and halves.
        self.font.set_size(self.font.units_per_EM, 72)
        self.characters = frozenset(self.font.get_charmap())
        flags: Any = getattr(ft2font, "LoadFlags", None)
        self.unhinted: Any = flags.NO_HINTING if flags else ft2font.LOAD_NO_HINTING  # pyright: ignore[reportAttributeAccessIssue]

    def glyph(self, character: int) -> Glyph:
        """Returns the outline of a character's glyph; it may be empty."""
        self.font.load_char(character, flags=self.unhinted)
        vertices, codes = self.font.get_path()
        return Glyph(np.round(np.asarray(vertices) * 2) / 2, np.asarray(codes))


def files() -> list[Path]:
    """Returns the files of the faces.

    Raises:
        UserError: where matplotlib has come without its fonts.
    """
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    found = [folder / name for name in FACES]
    if absent := [file for file in found if not file.is_file()]:
        raise UserError(
            f"there is no {absent[0]}, a font that matplotlib ships with and glyphs are drawn of\n"
            "install matplotlib by pip, which brings its fonts: pip install --force-reinstall "
            "matplotlib"
        )
    return found


def faces() -> list[Face]:
    """Returns the faces, in the order of `FACES`."""
    return [Face(file) for file in files()]


class Pen:
    """Fills outlines in an image of SIDE x SIDE pixels."""

    def __init__(self) -> None:
        self.renderer = RendererAgg(SIDE, SIDE, 72)
        self.style = self.renderer.new_gc()
        self.style.set_linewidth(0)
        self.style.set_snap(False)
        self.style.set_antialiased(True)

    def fill(self, glyph: Glyph, matrix: np.ndarray, shift: np.ndarray, ink: float) -> np.ndarray:
        """Returns [SIDE, SIDE] uint8, ink 255 and paper 0.

        The outline is transformed by `matrix` [2, 2], then scaled so that its longer side is `ink`
        pixels and moved so that its middle is that of the image plus `shift` [2] in pixels.
        """
        # Sums of two exact products; a matrix product may round otherwise on other processors.
        x, y = glyph.vertices.T
        at = np.stack([x * row[0] + y * row[1] for row in matrix], axis=1)
        low, high = at.min(axis=0), at.max(axis=0)
        at = (at - (low + high) / 2) * (ink / (high - low).max()) + SIDE / 2 + shift
        self.renderer.clear()
        self.renderer.draw_path(
            self.style, Outline(at, glyph.codes), IdentityTransform(), (0.0, 0.0, 0.0, 1.0)
        )
        return np.asarray(self.renderer.buffer_rgba())[..., 3].copy()


def transformation(turn: float, shear: float, sizes: tuple[float, float]) -> np.ndarray:
    """Returns a matrix [2, 2]: sizes of the axes, then a shear, then a rotation by `turn` degrees;
    its entries are on the grid."""
    angle = np.deg2rad(turn)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    slant = np.array([[1.0, shear], [0.0, 1.0]])
    return np.round(rotation @ slant @ np.diag(sizes) * GRID) / GRID


def images(character: int, known: list[Face], pen: Pen) -> np.ndarray:
    """Returns IMAGES images of a character [IMAGES, SIDE, SIDE] uint8.

    Its faces take turns in random orders, and each image has its own transformation. All draws
    depend on the character alone.
    """
    rng = np.random.default_rng(character)
    glyphs = [face.glyph(character) for face in known if character in face.characters]
    turns = _in_turn(len(glyphs), rng)
    found = np.empty((IMAGES, SIDE, SIDE), np.uint8)
    for image in found:
        glyph = glyphs[next(turns)]
        matrix = transformation(
            rng.uniform(-TURN, TURN),
            rng.uniform(-SHEAR, SHEAR),
            (rng.uniform(*SIZES), rng.uniform(*SIZES)),
        )
        size = INK * np.round(rng.uniform(*SIZES) * GRID) / GRID
        shift = np.round(rng.uniform(-SHIFT, SHIFT, 2) * GRID) / GRID
        image[:] = pen.fill(glyph, matrix, shift, size)
    return found


def _in_turn(number: int, rng: np.random.Generator) -> Iterator[int]:
    """Yields the numbers below `number` in one random order after another."""
    while True:
        yield from rng.permutation(number).tolist()
