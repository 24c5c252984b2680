"""Few-shot classification of characters, drawn of the fonts that matplotlib ships with."""

from __future__ import annotations

from copy import copy

import numpy as np

from metarl.config.settings import FewShotEnvConfig
from metarl.envs.supervised import glyph_cache, glyph_list
from metarl.envs.supervised.episodes import Episodes
from metarl.errors import UserError
from metarl.runs.inputs import Preprocessing
from metarl.types import Task

SHA256 = "74613af27b333b41ebb20657b85dcdc2eb925724208276072e0b4e6fc42dcb73"
"""SHA-256 of the images that the figures in docs/results.md are of, made with `MADE_WITH`."""
MADE_WITH = "matplotlib 3.11.2, FreeType 2.14.3"


class Glyphs(Episodes):
    """Tasks {"classes": ["latin/U+0041", ...]}: characters of the twelve DejaVu faces, 20 images
    of each, [1, 28, 28] with ink 1 and paper 0.

    A class is a script and a character. No script is in both splits. The images of a class are of
    random faces, turned, sheared, scaled and moved at random: `glyph_drawing.py`. Characters that
    look alike are one class: scripts/choose_glyphs.py has the rule.
    """

    def __init__(self, ways: int):
        scripts = glyph_list.read()
        self.scripts = [script for script, characters in scripts.items() for _ in characters]
        """Script of each class."""
        characters = [character for some in scripts.values() for character in some]
        pixels = glyph_cache.images(characters)
        classes = np.arange(len(characters))
        test = np.isin(self.scripts, glyph_list.TEST)
        super().__init__(
            "glyphs",
            pixels.reshape(-1, 1, *pixels.shape[2:]),
            np.repeat(classes, pixels.shape[1]),
            classes[~test],
            classes[test],
            ways,
            class_names=[
                f"{script}/U+{character:04X}"
                for script, character in zip(self.scripts, characters, strict=True)
            ],
            notes=_notes(pixels, int((~test).sum()), int(test.sum())),
            preprocessing=Preprocessing(255.0, 0.0, 1.0),
        )

    def describe(self, task: Task) -> str:
        """Returns the code points of its characters."""
        return super().describe({"classes": [x.partition("/")[2] for x in task["classes"]]})

    def with_validation(self) -> Glyphs:
        """Returns these tasks with some of the training scripts in the place of the test scripts,
        and the others for training.

        Raises:
            UserError: where their classes are too few for the ways.
        """
        apart = np.isin(self.scripts, glyph_list.VALIDATION)
        if (most := int(apart.sum())) < self.spec.outputs:
            raise UserError(
                f"the validation scripts of glyphs have {most} classes, and env.ways is "
                f"{self.spec.outputs}; lower it, or use --select-on train"
            )
        train = self._splits["train"]
        found = copy(self)
        found._splits = {"train": train[~apart[train]], "test": train[apart[train]]}
        return found


def _notes(pixels: np.ndarray, train: int, test: int) -> list[str]:
    """Returns the lines to print when a run starts."""
    lines = [f"glyphs: {train:,} classes to train on and {test:,} to test on, no script in both"]
    if glyph_cache.digest(pixels) != SHA256:
        lines.append(
            f"warning: {glyph_cache.made_with()} drew other pixels than {MADE_WITH}, of which the "
            "published figures are; compare only runs that were made with one of them"
        )
    return lines


def glyphs(env: FewShotEnvConfig, variant: str) -> Glyphs:
    """Returns the tasks that `env` asks for."""
    del variant
    return Glyphs(env.ways)
