"""Draws charts as SVG for a page: text stays text, and colours are the page's own.

A chart is as wide as its place and never wider than a narrow screen, so that its letters stay
readable there. Its colours are classes of the page's style, which has a light and a dark set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from markupsafe import Markup, escape

from metarl.reporting import ticks
from metarl.reporting.ticks import drawable
from metarl.text import printable

WIDTH, HEIGHT = 380, 250
"""Size of a chart in its own units, of which a letter has 12."""
TOP, BOTTOM, RIGHT = 10, 40, 12
"""Margins around the axes."""
LETTER = 6.6
"""Width of a digit."""
WIDE = 10.0
"""Ratio of the largest to the smallest error at which an axis becomes logarithmic."""
MOST_LABEL = 60
"""Characters of a label."""

Scale = Literal["linear", "errors", "share", "from zero"]
Mark = Literal["", "circle", "square", "triangle", "diamond"]


class Line(NamedTuple):
    """A curve with what is drawn around it."""

    x: np.ndarray  # [N]
    y: np.ndarray  # [N]; NaN leaves a gap
    look: str
    """Classes of the page's style, such as "c0 bold"."""
    low: np.ndarray | None = None
    """Lower end of a band, [N]."""
    high: np.ndarray | None = None
    error: np.ndarray | None = None
    """Half length of bars, [N]."""
    mark: Mark = ""
    notes: Sequence[str] = ()
    """A text for each mark, shown where the pointer rests on it."""
    needed: bool = True
    """Whether the y axis has to reach all of it; of others it reaches the middle 98%."""


class Chart(NamedTuple):
    """A pair of axes with curves."""

    title: str
    x_label: str
    lines: Sequence[Line]
    y_label: str = ""
    scale: Scale = "linear"
    x_texts: ticks.Texts = ticks.numbers
    whole_x: bool = False
    """Whether x has whole numbers alone."""
    levels: Sequence[tuple[float, str]] = ()
    """Values over the whole width, each with its classes."""
    key: Markup = Markup()
    """Legend of its own."""


def figure(chart: Chart) -> Markup:
    """Returns a chart as an HTML figure with its title."""
    label = f'<span class="quiet"> {_text(chart.y_label)}</span>' if chart.y_label else ""
    return Markup(
        f"<figure><figcaption><b>{_text(chart.title)}</b>{label}</figcaption>{_drawn(chart)}"
        f"{chart.key}</figure>"
    )


def swatch(look: str, mark: Mark = "", band: bool = False) -> Markup:
    """Returns a sample of a line for a legend."""
    path = (
        f'<path class="band {look}" d="M0 1H30V13H0Z"/>'
        if band
        else f'<path class="l {look}" d="M0 7H30"/>'
    )
    shape = _mark(mark, 15, 7, look, "") if mark else ""
    return Markup(f'<svg class="swatch" viewBox="0 0 30 14" aria-hidden="true">{path}{shape}</svg>')


class _Axes(NamedTuple):
    """Limits of the axes, and where the values lie in the drawing."""

    x: tuple[float, float]
    y: tuple[float, float]
    logarithmic: bool
    left: float

    @property
    def width(self) -> float:
        return WIDTH - RIGHT - self.left

    def at_x(self, values: np.ndarray) -> np.ndarray:
        low, high = self.x
        return self.left + (values - low) / (high - low) * self.width

    def at_y(self, values: np.ndarray) -> np.ndarray:
        low, high = self.y
        with np.errstate(all="ignore"):
            if self.logarithmic:
                values, low, high = np.log10(values), math.log10(low), math.log10(high)
            # What lies far outside is clipped by the browser, which draws no huge coordinates.
            share = np.clip((values - low) / (high - low), -2.0, 3.0)
        return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM)


def _drawn(chart: Chart) -> str:
    lines = [_drawable(line) for line in chart.lines]
    x, (y, logarithmic) = _x_limits(lines), _y_limits(chart, lines)
    y_ticks = ticks.logarithmic(*y) if logarithmic else ticks.linear(*y, most=6)
    texts = ticks.shares if chart.scale == "share" else (
        ticks.powers if logarithmic else ticks.numbers
    )  # fmt: skip
    y_texts = texts(y_ticks)
    left = 14 + LETTER * max(map(len, y_texts), default=1)
    axes = _Axes(x, y, logarithmic, left)
    parts = [_y_axis(axes, y_ticks, y_texts), _x_axis(axes, chart), _clipped(axes, lines, chart)]
    parts += [_marks(axes, line) for line in lines if line.mark]
    name = _text(f"{chart.title} against {chart.x_label}")
    head = f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">'
    return f"{head}{''.join(parts)}</svg>"


def _drawable(line: Line) -> Line:
    arrays = {
        name: None if (values := getattr(line, name)) is None else drawable(values)
        for name in ("x", "y", "low", "high", "error")
    }
    return line._replace(**arrays)


def _x_limits(lines: Sequence[Line]) -> tuple[float, float]:
    known = np.concatenate([line.x for line in lines] or [np.zeros(1)])
    known = known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _y_limits(chart: Chart, lines: Sequence[Line]) -> tuple[tuple[float, float], bool]:
    """Returns the limits of the y axis, and whether it is logarithmic."""
    seen = [np.array([value for value, _ in chart.levels], float)]
    for line in lines:
        if line.needed:
            seen += [each for each in (line.y, line.low, line.high) if each is not None]
            seen += [] if line.error is None else [line.y - line.error, line.y + line.error]
        elif (known := line.y[np.isfinite(line.y)]).size:
            seen.append(np.quantile(known, [0.01, 0.99]))
    values = drawable(np.concatenate(seen))
    values = values[np.isfinite(values)]
    if chart.scale == "share":
        return (0.0, 1.0), False
    if chart.scale == "errors":
        positive = values[values > 0]
        if not positive.size:
            return (0.0, 1.0), False
        low, high = float(positive.min()), float(positive.max())
        if high < WIDE * low:
            return (0.0, 1.05 * high), False
        return (max(low / 1.15, high / 1e12), high * 1.15), True
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if chart.scale == "from zero":
        return (min(0.0, low), 1.05 * high if high > 0 else 1.0), False
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return (low - room, high + room), False


def _y_axis(axes: _Axes, at: Sequence[float], texts: Sequence[str]) -> str:
    parts = []
    for y, text in zip(axes.at_y(np.array(at, float)), texts, strict=True):
        parts.append(f'<path class="grid" d="M{axes.left:.1f} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="end" x="{axes.left - 6:.1f}" y="{y + 4:.1f}">{text}</text>')
    return "".join(parts)


def _x_axis(axes: _Axes, chart: Chart) -> str:
    at = ticks.linear(*axes.x, most=5, whole=chart.whole_x)
    bottom = HEIGHT - BOTTOM
    parts = [f'<path class="axis" d="M{axes.left:.1f} {bottom}H{WIDTH - RIGHT}"/>']
    for x, text in zip(axes.at_x(np.array(at, float)), chart.x_texts(at), strict=True):
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
        parts.append(f'<text class="mid" x="{x:.1f}" y="{bottom + 17}">{text}</text>')
    middle = axes.left + axes.width / 2
    label = _text(chart.x_label)
    parts.append(f'<text class="mid" x="{middle:.1f}" y="{HEIGHT - 5}">{label}</text>')
    return "".join(parts)


def _clipped(axes: _Axes, lines: Sequence[Line], chart: Chart) -> str:
    """Returns bands, levels and lines, cut off at the axes by a drawing of their size."""
    box = (axes.left, TOP, axes.width, HEIGHT - TOP - BOTTOM)
    x, y, width, height = (f"{each:.1f}" for each in box)
    inner = [_band(axes, line) for line in lines if line.low is not None]
    for value, look in chart.levels:
        if math.isfinite(value):
            at = float(axes.at_y(np.array(value)))
            inner.append(f'<path class="l {look}" d="M{axes.left:.1f} {at:.1f}H{WIDTH}"/>')
    for line in lines:
        inner.append(_bars(axes, line))
        if path := _path(axes.at_x(line.x), axes.at_y(line.y)):
            inner.append(f'<path class="l {line.look}" d="{path}"/>')
    size = f'x="{x}" y="{y}" width="{width}" height="{height}" viewBox="{x} {y} {width} {height}"'
    return f'<svg {size} preserveAspectRatio="none">{"".join(inner)}</svg>'


def _path(xs: np.ndarray, ys: np.ndarray) -> str:
    """Returns the path through the points, with gaps where one is not finite."""
    parts, pen = [], "M"
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        if math.isfinite(x) and math.isfinite(y):
            parts.append(f"{pen}{x:.1f} {y:.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(parts)


def _band(axes: _Axes, line: Line) -> str:
    assert line.low is not None
    assert line.high is not None
    known = np.isfinite(line.x) & np.isfinite(line.low) & np.isfinite(line.high)
    if known.sum() < 2:
        return ""
    xs, low, high = axes.at_x(line.x[known]), axes.at_y(line.low[known]), line.high[known]
    there = _path(xs, low)
    back = _path(xs[::-1], axes.at_y(high)[::-1]).replace("M", "L", 1)
    return f'<path class="band {line.look}" d="{there}{back}Z"/>'


def _bars(axes: _Axes, line: Line) -> str:
    if line.error is None:
        return ""
    ends = axes.at_y(line.y - line.error), axes.at_y(line.y + line.error)
    path = "".join(
        f"M{x:.1f} {low:.1f}V{high:.1f}"
        for x, low, high in zip(axes.at_x(line.x), *ends, strict=True)
        if math.isfinite(x) and math.isfinite(low) and math.isfinite(high)
    )
    return f'<path class="l {line.look} solid" d="{path}"/>' if path else ""


def _marks(axes: _Axes, line: Line) -> str:
    xs, ys, parts = axes.at_x(line.x), axes.at_y(line.y), []
    for i, (x, y) in enumerate(zip(xs.tolist(), ys.tolist(), strict=True)):
        if math.isfinite(x) and math.isfinite(y) and TOP - 1 <= y <= HEIGHT - BOTTOM + 1:
            note = line.notes[i] if i < len(line.notes) else ""
            parts.append(_mark(line.mark, x, y, line.look, note))
    return "".join(parts)


def _mark(mark: Mark, x: float, y: float, look: str, note: str) -> str:
    at = f"M{x:.1f} {y:.1f}"
    shape = {
        "circle": f"M{x - 3.6:.1f} {y:.1f}a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0-7.2 0Z",
        "square": f"{at}m-3.4-3.4h6.8v6.8h-6.8Z",
        "triangle": f"{at}m0-4.4l4.2 7.6h-8.4Z",
        "diamond": f"{at}m0-4.4l4.4 4.4l-4.4 4.4l-4.4-4.4Z",
    }[mark]
    about = f"<title>{_text(note)}</title>" if note else ""
    return f'<path class="mark {look}" d="{shape}">{about}</path>'


def _text(text: str) -> str:
    """Returns a text for the page, which somebody else may have chosen: escaped and short."""
    cut = text if len(text) <= MOST_LABEL else f"{text[: MOST_LABEL - 3]}..."
    return str(escape(printable(cut)))
