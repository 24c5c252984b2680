"""Chooses the characters of the few-shot tasks `glyphs`: metarl/envs/supervised/glyphs.yaml.

    python scripts/choose_glyphs.py            # minutes; writes the file
    python scripts/choose_glyphs.py --check    # compares the choice with the file

A character is a class if at least four of matplotlib's twelve DejaVu faces have it and it looks
like no class before it. Scripts come in the order of `SCRIPTS`, characters in that of their code
points. Two characters look alike if ALIKE is not below the median, over the faces that have both,
of 1 - 2 a.b / (a.a + b.b); the lower one of two medians counts. Here a and b are their images in
one face, with the same size and middle, and one is turned by the best of ANGLES. So training
classes come first, and a test character that looks like one of them is left out.
"""

from __future__ import annotations

import argparse
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from metarl.envs.supervised import glyph_drawing as drawing
from metarl.envs.supervised.glyph_list import FILE, as_text, read

SCRIPTS = {
    "latin": ("LATIN",),
    "canadian": ("CANADIAN SYLLABICS",),
    "arabic": ("ARABIC LETTER",),
    "signs": (),
    "italic": ("OLD ITALIC",),
    "cyrillic": ("CYRILLIC",),
    "armenian": ("ARMENIAN",),
    "lao": ("LAO",),
    "greek": ("GREEK", "COPTIC"),
    "georgian": ("GEORGIAN",),
    "hebrew": ("HEBREW LETTER",),
}
"""Script -> how the Unicode names of its letters begin; signs are of categories, not of names."""
LETTERS = frozenset({"Lu", "Ll", "Lt", "Lo"})
SIGNS = frozenset({"Nd", "No", "Sm", "Sc", "So", "Po"})
NO_SIGNS = (
    "BRAILLE", "BOX DRAWINGS", "DOMINO", "PLAYING CARD", "HEXAGRAM", "TETRAGRAM", "MAHJONG",
    "CIRCLED", "NEGATIVE CIRCLED", "DINGBAT", "PARENTHESIZED", "SQUARED", "DIGRAM", "MONOGRAM",
)  # fmt: skip
"""Signs that consist of other characters, or of dots and lines at certain places."""
ALIKE = 0.12
ANGLES = (-20.0, -10.0, 0.0, 10.0, 20.0)
"""Rotations of one of two images, degrees; random ones differ by up to 24."""
BLOCK = 250
"""Characters that are compared with all others at a time."""


def script_of(character: int) -> str:
    """Returns the script of a character; empty for one that is no candidate."""
    name, category = unicodedata.name(chr(character), ""), unicodedata.category(chr(character))
    if category in SIGNS:
        return "" if name.startswith(NO_SIGNS) else "signs"
    if category in LETTERS:
        return next((s for s, starts in SCRIPTS.items() if starts and name.startswith(starts)), "")
    return ""


def candidates(faces: Sequence[drawing.Face]) -> list[int]:
    """Returns the characters that enough faces draw, in the order in which they are chosen."""
    count = Counter(c for face in faces for c in face.characters)
    drawn = [
        c
        for c, number in count.items()
        if number >= drawing.LEAST_FACES
        and script_of(c)
        and all(len(f.glyph(c).vertices) > 2 for f in faces if c in f.characters)
    ]
    return sorted(drawn, key=lambda c: (list(SCRIPTS).index(script_of(c)), c))


def differences(characters: Sequence[int], faces: Sequence[drawing.Face]) -> np.ndarray:
    """Returns how much each pair differs [n, n], 1 where no face has both."""
    pen, number = drawing.Pen(), len(characters)
    middle = np.zeros(2)
    least = np.ones((number, number), np.float32)
    turned = {
        angle: np.zeros((len(faces), number, drawing.SIDE**2), np.float32) for angle in ANGLES
    }
    has = np.zeros((len(faces), number), bool)
    for row, face in enumerate(faces):
        for column, character in enumerate(characters):
            if character in face.characters:
                glyph, has[row, column] = face.glyph(character), True
                for angle, images in turned.items():
                    matrix = drawing.transformation(angle, 0.0, (1.0, 1.0))
                    image = pen.fill(glyph, matrix, middle, drawing.INK)
                    images[row, column] = image.ravel() / 255
    for angle, images in turned.items():
        for start in range(0, number, BLOCK):
            rows = slice(start, start + BLOCK)
            found = np.stack([
                _difference(turned[0.0][face, rows], images[face], has[face, rows], has[face])
                for face in range(len(faces))
            ])  # fmt: skip
            found.sort(axis=0)
            shared = np.isfinite(found).sum(axis=0)
            median = np.take_along_axis(found, np.maximum(shared - 1, 0)[None] // 2, axis=0)[0]
            least[rows] = np.minimum(least[rows], median)
        print(f"compared at {angle:g} degrees", flush=True)
    return np.minimum(least, least.T)


def _difference(a: np.ndarray, b: np.ndarray, has_a: np.ndarray, has_b: np.ndarray) -> np.ndarray:
    """Returns the differences of images [n, pixels] and [m, pixels], infinite without a glyph."""
    ink = np.square(a).sum(1)[:, None] + np.square(b).sum(1)
    return np.where(has_a[:, None] & has_b, 1 - 2 * (a @ b.T) / np.maximum(ink, 1e-6), np.inf)


def chosen() -> dict[str, list[int]]:
    """Returns the characters of each script."""
    faces = drawing.faces()
    characters = candidates(faces)
    differ = differences(characters, faces)
    kept: list[int] = []
    for place in range(len(characters)):
        if not kept or differ[place, kept].min() > ALIKE:
            kept.append(place)
    found: dict[str, list[int]] = {script: [] for script in SCRIPTS}
    for place in kept:
        found[script_of(characters[place])].append(characters[place])
    print(f"{len(characters)} characters, {len(kept)} classes")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    found = chosen()
    print({script: len(characters) for script, characters in found.items()})
    if not check:
        FILE.write_text(as_text(found), encoding="utf-8")
    elif found != read():
        raise SystemExit(f"{FILE} has other characters")
