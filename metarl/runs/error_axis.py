"""The axis of errors: they fall by factors, from several units to hundredths."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

WIDE = 10.0
"""Ratio of the largest to the smallest error from which on the axis is logarithmic."""


def error_axis(axes: Axes, values: np.ndarray) -> None:
    """Shows errors, 0 at the least: in logarithms where they go over a decade, else from zero.

    Args:
        values: what must be seen, any shape; NaN, infinity and zero set no end.
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
