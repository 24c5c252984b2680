"""The characters that are the classes of `glyphs`, by script: glyphs.yaml.

scripts/choose_glyphs.py has chosen them. The list is part of metarl, so that the classes are the
same with any version of matplotlib and of Unicode's tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("glyphs.yaml")
HEAD = """\
# Characters that are the classes of `glyphs`, by script, as code points in base 16.
# Written by scripts/choose_glyphs.py, which has the rule.
"""
TEST = ("greek", "georgian", "hebrew")
"""Scripts that are held out."""
VALIDATION = ("cyrillic", "armenian", "lao")
"""Training scripts that a search for settings keeps apart."""
WIDTH = 96


def read() -> dict[str, list[int]]:
    """Returns the code points of each script's characters, in order."""
    found = {}
    for script, text in yaml.safe_load(FILE.read_text(encoding="utf-8")).items():
        found[script] = characters = []
        for word in text.split():
            first, _, last = word.partition("-")
            characters += range(int(first, 16), int(last or first, 16) + 1)
    return found


def as_text(scripts: Mapping[str, Sequence[int]]) -> str:
    """Returns the file's contents: runs of neighbouring code points are FIRST-LAST."""
    lines = [HEAD]
    for script, characters in scripts.items():
        lines.append(f"{script}: >-\n")
        line = " "
        for _, group in groupby(enumerate(sorted(characters)), lambda x: x[1] - x[0]):
            run = [character for _, character in group]
            word = f"{run[0]:x}-{run[-1]:x}" if len(run) > 1 else f"{run[0]:x}"
            if len(line) + 1 + len(word) > WIDTH:
                lines.append(line + "\n")
                line = " "
            line += f" {word}"
        lines.append(line + "\n")
    return "".join(lines)
