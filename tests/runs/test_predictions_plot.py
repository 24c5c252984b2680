"""Predictions beside the truth."""

import numpy as np
import pytest

from metarl.runs import plot_style
from metarl.runs.predictions_plot import Panel, predictions_figure

XS = np.linspace(-5.0, 5.0, 11)


def panel(title: str = "a=2", size: float = 2.0) -> Panel:
    truth = size * np.sin(XS)
    return Panel(title, XS, truth, XS[::5], truth[::5], np.stack([0 * XS, truth / 2, truth]))


def drawn(axes) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_ydata()) for line in axes.lines}


def test_each_task_has_its_truth_points_and_predictions():
    figure = predictions_figure([panel(), panel("a=0.5", 0.5)], (0, 1, 10), "maml")
    for axes, expected in zip(figure.axes, (panel(), panel("a=0.5", 0.5)), strict=True):
        assert axes.get_title(loc="left") == expected.title
        lines = drawn(axes)
        np.testing.assert_array_equal(lines["truth"], expected.truth)
        for label, values in zip(
            ("before adaptation", "after 1 step", "after 10 steps"),
            expected.predictions,
            strict=True,
        ):
            np.testing.assert_array_equal(lines[label], values)
        points = np.asarray(axes.collections[0].get_offsets())
        np.testing.assert_array_equal(points, np.c_[expected.support_x, expected.support_y])
    looks = {line.get_label(): line for line in figure.axes[0].lines}
    assert looks["before adaptation"].get_linestyle() == "--"
    widths = {label: line.get_linewidth() for label, line in looks.items()}
    assert widths.pop("after 10 steps") > max(widths.values())
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["truth", "support"]
    assert len(labels) == 5  # once, not for each task
    plot_style.png(figure, dpi=30)


def test_a_prediction_far_off_leaves_the_truth_readable():
    truth = XS / 5
    wild = np.stack([0 * XS, np.where(XS > 0, np.inf, 1e6)])
    far = predictions_figure([Panel("", XS, truth, XS[:2], truth[:2], wild)], (0, 1))
    low, high = far.axes[0].get_ylim()
    assert low < -1
    assert 1 < high < 4
    plot_style.png(far, dpi=30)


def test_a_flat_truth_has_room():
    flat = predictions_figure([Panel("", XS, 0 * XS, XS[:2], 0 * XS[:2], 0 * XS[None])], (0,))
    assert flat.axes[0].get_ylim() == (-1, 1)


def test_as_many_predictions_as_steps():
    with pytest.raises(ValueError, match="zip"):
        predictions_figure([panel()], (0, 10))
