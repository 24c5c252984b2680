"""Names in pictures are drawn as they are, whatever a user called a folder or a class."""

import warnings

import numpy as np
import pytest
from matplotlib.text import Text

from metarl.checking.returns_plot import returns_figure
from metarl.reporting.run_page import render
from metarl.runs import plot_style
from metarl.runs.adaptation import Adaptation, Outcome
from metarl.runs.adaptation_plot import adaptation_figure
from metarl.runs.class_success import class_success
from metarl.runs.class_success_plot import success_figure
from metarl.runs.predictions_plot import Panel, predictions_figure
from metarl.text import printable

NAMES = {
    "a formula": "$b^{$",
    "an underscore": "_hidden",
    "undecodable": "caf\udce9",
    "a surrogate": "\ud800",
    "control characters": "a\x1b[31m\x00b\nc",
    "right to left": "\u202egnp.exe",
    "no glyph": "\U0001f600\u4e2d",
    "long": "x" * 1000,
    "empty": "",
    "percent": "%s{x}\\n",
}


ALL = "".join(NAMES.values())[-120:] + "$b^{$"


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


@pytest.fixture
def figures():
    """Every picture, with each of the names in its legend and at its ticks, and a title of all."""
    solved_at = np.tile(np.array([[[0], [2]]]), (len(NAMES), 1, 1))
    outcome = Outcome(solved_at * 1.0, solved_at > 0, None, solved_at)
    classes = tuple({"class": name} for name in NAMES.values())
    others = dict.fromkeys(NAMES.values(), outcome)
    found = Adaptation(ALL, ALL, "test", (0, 1), (0, 5), classes, outcome, {}, others)
    success = class_success(found)
    assert success
    line, names = np.arange(2.0), list(NAMES.values())
    panel = Panel(ALL, line, line, line, line, line[None])
    return {
        "adaptation": adaptation_figure(found),
        "success": success_figure(success),
        "predictions": predictions_figure([panel], [0], ALL),
        "returns": returns_figure(np.ones((len(names), 3)), names, ALL),
    }


def test_every_picture_is_drawn(figures):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in figures.values():
            assert plot_style.png(figure, dpi=20).startswith(b"\x89PNG")
    for figure in figures.values():
        for text in texts(figure):
            assert len(text) <= plot_style.MAX_TEXT
            assert text == printable(text)
    shown = set(map(plot_style.name, NAMES.values()))
    assert shown <= set(texts(figures["adaptation"].legends[0]))
    for name in ("success", "returns"):
        assert shown <= {text.get_text() for text in figures[name].axes[0].get_yticklabels()}


def test_long_names_keep_their_ends():
    one, other = plot_style.name("x" * 99 + "1"), plot_style.name("x" * 99 + "2")
    assert one != other
    assert len(one) == plot_style.MAX_NAME
    assert plot_style.name("_x") == " _x"
    assert plot_style.name("maml-trpo") == "maml-trpo"


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("values", np.nan), ("one value", 1e308), ("steps", 1e308), ("rows", np.nan),
        ("rows", 1e308), ("few-shot rows", 1e308),
    ],
)  # fmt: skip
def test_odd_numbers_are_drawn(value, where):
    """Without a warning. A file may hold them, as 1e999 is a number of JSON."""
    values, steps, rows = np.ones((3, 2, 2)), (0, 5.0), []
    if where == "values":
        values[:] = value
    elif where == "one value":
        values[0, 0] = value
    elif where == "steps":
        steps = (0, value)
    else:
        used = "env_steps" if where == "rows" else "tasks"
        names = ("wall_s", used, "return/step0", "success/step0", "kl", "loss/step0")
        rows = [{"iteration": n, **dict.fromkeys(names, value)} for n in (1, 2)]
    found = Adaptation("e", "a", "test", (0, 1), steps, ({},) * 3, Outcome(values))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        render("x", "", {}, rows, [] if rows else [found])


def test_rows_without_a_metric_are_drawn():
    assert "No iteration" not in render("x", "", {}, [{"iteration": 1}], [])
