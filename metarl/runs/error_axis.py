"""Plot axis for errors, which may fall from several units to hundredths."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

WIDE = 10.0
"""Ratio of the largest to the smallest error at which the axis becomes logarithmic."""


def error_axis(axes: Axes, values: np.ndarray) -> None:
    """Sets a logarithmic axis if the errors span a decade or more, else a linear one from zero.

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
