"""Common style of all pictures. Figures are made without pyplot, which would keep them in memory.

Names in a picture are drawn as they are, whatever a user called a folder: `$` begins no formula,
and what has no shape is escaped. This imports matplotlib, which is slow, so import it only where a
picture is drawn.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import (
    EngFormatter,
    FuncFormatter,
    LogLocator,
    NullLocator,
    PercentFormatter,
    StrMethodFormatter,
)

from metarl.runs.files import replace_bytes
from metarl.text import printable

# Okabe and Ito's colours, safe for the colour-blind; their yellow is too light for lines.
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY = "#CC79A7", "#E69F00", "#56B4E9"
INK, GREY = "#222222", "#6B6B6B"

WIDE = 10.0
"""Ratio of the largest to the smallest error at which an axis becomes logarithmic."""
MAX_TITLE = 48
"""Characters of a name in a title, as lists of classes can be long."""
MAX_NAME = 36
"""Characters of a name in a legend or at an axis, which leave room for the curves."""
MAX_TEXT = 300
"""Characters of a whole text, such as a title of several names."""
LARGEST = 1e100
"""Size of a value from which on it is not drawn."""
PLAIN: dict[Any, Any] = {"text.parse_math": False}
"""Setting by which `$` is a character like others."""

STYLE: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 2,
    "legend.frameon": False,
    "figure.facecolor": "white",
    **PLAIN,
}


@contextmanager
def titled_figure(width: float, height: float, title: str) -> Iterator[Figure]:
    """Yields a figure to draw in, sizes in inches; the style is applied within the block."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, color=INK)
        yield figure


def png(figure: Figure, dpi: int = 150) -> bytes:
    """Returns a figure as PNG; equal figures give equal bytes."""
    content = io.BytesIO()
    _make_printable(figure)
    with matplotlib.rc_context(PLAIN), warnings.catch_warnings():  # some texts are made in drawing
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box is drawn instead
        # Where names are wide and many, the legend or the labels overlap the axes.
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        figure.savefig(content, format="png", dpi=dpi, metadata={"Software": None})
    return content.getvalue()


def _make_printable(figure: Figure) -> None:
    """Escapes and shortens the texts of a figure; names come from anywhere."""
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_text(_cut(printable(text.get_text()), MAX_TEXT))
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            formatter = axis.get_major_formatter()
            if isinstance(formatter, FuncFormatter):  # of tick labels that were given as texts
                formatter.func = partial(_named, formatter.func)


def _named(labels: Callable[..., str], *at: Any) -> str:
    return name(labels(*at))


def save(path: Path, figure: Figure) -> None:
    replace_bytes(path, png(figure))


def drawable(values: np.ndarray) -> np.ndarray:
    """Returns the values as a picture has them: NaN, which leaves a gap, for those near the end of
    the floating-point numbers, at which axes fail."""
    wide = np.asarray(values, np.float64)
    return np.where(np.abs(wide) < LARGEST, wide, np.nan)


def count_axis(axes: Axes) -> None:
    """Formats counts on the x axis as 4k or 152M."""
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def share_axis(axes: Axes) -> None:
    """Formats the y axis for shares in [0, 1], in percent."""
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def error_axis(axes: Axes, values: np.ndarray) -> None:
    """Sets a logarithmic y axis if the errors span a decade or more, else a linear one from zero.

    Args:
        values: errors that must be visible, any shape; NaN, infinity and zero are ignored.
    """
    seen = values[np.isfinite(values) & (values > 0)]
    if not seen.size:
        return
    low, high = seen.min(), seen.max()
    if high < WIDE * low:
        axes.set_ylim(0.0, 1.05 * high)
        return
    axes.set_yscale("log")
    axes.set_ylim(low / 1.1, 1.1 * high)
    subs = (1.0, 2.0, 5.0) if high < 1e3 * low else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def titled(text: str) -> str:
    """Returns a name cut to fit into a title."""
    return text if len(text) <= MAX_TITLE else f"{text[: MAX_TITLE - 3]}..."


def name(text: str) -> str:
    """Returns a name as a label that is drawn: in one line, not too long, its ends kept.

    Matplotlib leaves labels out of a legend that begin with an underscore.
    """
    line = printable(text).replace("\n", "\\n").replace("\t", "\\t")
    return _cut(f" {line}" if line.startswith("_") else line, MAX_NAME)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    end = (most - 3) // 2
    return f"{text[: most - 3 - end]}...{text[-end:]}"
