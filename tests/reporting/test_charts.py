"""Charts as SVG: where values lie, what is cut off, and what strange values do."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from metarl.reporting import ticks
from metarl.reporting.commands import commands
from metarl.reporting.learning_charts import MOST_STEPS, learning
from metarl.reporting.svg import HEIGHT, TOP, WIDTH, Chart, Line, figure
from metarl.reporting.task_charts import task_charts
from metarl.reporting.task_table import ENDS, MOST_ROWS, task_table
from metarl.runs.adaptation import Adaptation, Outcome
from metarl.runs.measures import MEAN_SQUARED_ERROR


def points(drawn: str, look: str) -> np.ndarray:
    """Returns the corners of the line that has a look, [N, 2]."""
    (path,) = re.findall(rf'<path class="l {look}" d="([^"]*)"/>', drawn)
    return np.array([[float(x) for x in pair.split()] for pair in re.split("[ML]", path)[1:]])


def test_values_lie_where_the_axes_say():
    """Equal steps have equal distances, and more is higher."""
    drawn = figure(Chart("a", "x", [Line(np.arange(5.0), 2 * np.arange(5.0), "c0")]))
    at = points(drawn, "c0")
    np.testing.assert_allclose(np.diff(at[:, 0]), (WIDTH - 12 - at[0, 0]) / 4, atol=0.11)
    assert (np.diff(at[:, 1]) < 0).all()
    (y,) = re.findall(r'class="end" x="[\d.]+" y="([\d.]+)">4</text>', drawn)
    assert float(y) - 4 == pytest.approx(at[2, 1], abs=0.11)


def test_errors_over_a_decade_are_drawn_by_their_logarithm():
    """A tenth is as far below 1 as 1 below ten."""
    lines = [Line(np.arange(3.0), np.array([10.0, 1.0, 0.1]), "c0")]
    at = points(figure(Chart("a", "x", lines, scale="errors")), "c0")
    assert at[1, 1] - at[0, 1] == pytest.approx(at[2, 1] - at[1, 1], abs=0.21)


def test_what_is_not_finite_leaves_a_gap_and_far_values_stay_near():
    values = np.array([0.0, np.nan, 1.0, 1e300, -1e99])
    drawn = figure(
        Chart("a", "x", [Line(np.arange(5.0), values, "c0", needed=False)], scale="share")
    )
    assert drawn.count("M") >= 2
    (path,) = re.findall(r'<path class="l c0" d="([^"]*)"/>', drawn)
    assert path.count("M") == 3  # before the first gap, between the gaps, behind them
    assert max(map(abs, map(float, re.findall(r"[-\d.]+", path)))) <= 2 * max(WIDTH, HEIGHT)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e308, 5e-324, -1e149])
@pytest.mark.parametrize("scale", ["linear", "errors", "share", "from zero"])
def test_any_value_is_drawn(value, scale):
    values = np.full(3, value)
    line = Line(values, values, "c0", values, values, values, "circle", ["a", "b", "c"])
    drawn = figure(Chart("a", "x", [line], scale=scale, levels=[(value, "c1")]))
    assert not re.search(r"\b(nan|inf)\b", drawn)


def test_texts_of_ticks():
    assert ticks.linear(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks.numbers(ticks.linear(-1, 1)) == ["−1.0", "−0.5", "0.0", "0.5", "1.0"]  # noqa: RUF001
    assert ticks.linear(0.5, 2.5, whole=True) == [1, 2]
    assert ticks.counts([0, 2000, 1.5e8]) == ["0", "2k", "150M"]
    assert ticks.logarithmic(0.03, 3) == pytest.approx([0.05, 0.1, 0.2, 0.5, 1, 2])
    assert len(ticks.linear(1e99, 2e99)) < 10
    assert ticks.time_unit(7200) == (3600.0, "h")


def rows(count: int, steps: int = 2) -> list[dict[str, float]]:
    return [
        {"iteration": i, "env_steps": 1000 * i, "wall_s": 100.0 * i, "kl": 0.01 * i, "skipped": 0,
         "time/sampling_s": 1.0, "time/update_s": 3.0, "value/explained_variance": i / count,
         "my/own": i, **{f"return/step{step}": step - 1 / i for step in range(steps)}}
        for i in range(1, count + 1)
    ]  # fmt: skip


def titles(charts) -> list[str]:
    return [re.findall("<b>(.*?)</b>", chart)[0] for chart in charts]


def test_diagnostics_are_those_that_the_run_has():
    found = learning(rows(30))
    assert titles(found.curves) == ["Return", "Return"]
    assert "environment steps" in found.curves[0]
    assert "wall-clock time, min" in found.curves[1]
    assert titles(found.diagnostics) == [
        "Gap between before and after adaptation", "KL divergence", "Value function",
        "Time of an iteration", "my/own",
    ]  # fmt: skip
    assert found.constants == [("skipped", "0")]
    assert "sampling 25%, update 75%" in found.time
    assert "10 environment steps a second" in found.time


def test_a_long_run_and_many_steps_make_a_small_chart():
    found = learning(rows(5000, steps=30))
    assert found.legend.count("<li>") == MOST_STEPS
    assert "after 29 steps" in found.legend
    assert sum(map(len, found.curves)) < 150_000


def test_extremes_of_a_long_run_are_drawn():
    some = rows(5000)
    some[1234]["kl"] = 10_000.0
    chart = next(each for each in learning(some).diagnostics if "KL" in each)
    assert min(points(chart, "c0 faint")[:, 1]) < TOP  # far above the axes


def evaluated(tasks: int, **other) -> Adaptation:
    values = np.stack([np.zeros(tasks), np.arange(tasks, dtype=float)], axis=1)[..., None]
    given = tuple({"goal": [k, 0.5], "name": "a" * 100} for k in range(tasks))
    return Adaptation("e", "a", "test", (0, 1), (0, 5), given, Outcome(values), **other)


def test_best_and_worst_tasks_are_marked():
    table = task_table(evaluated(20))
    assert table.parameters == ["goal", "name"]
    assert [row.task for row in table.rows if row.standing == "worst"] == [1, 2, 3]
    assert [row.task for row in table.rows if row.standing == "best"] == [18, 19, 20]
    assert table.rows[4].parameters == ["4, 0.5", "a" * 57 + "..."]
    assert table.rows[4].values == ["0.0", "4.0", "4.0"]
    errors = task_table(evaluated(20, measure=MEAN_SQUARED_ERROR))
    assert [row.task for row in errors.rows if row.standing == "best"] == [1, 2, 3]
    assert not any(row.standing for row in task_table(evaluated(2)).rows)


def test_of_many_tasks_the_ends_stay():
    table = task_table(evaluated(5 * MOST_ROWS))
    assert len(table.rows) == MOST_ROWS
    assert table.left_out == 4 * MOST_ROWS
    assert sum(row.standing == "best" for row in table.rows) == ENDS


def test_results_are_drawn_against_what_tasks_differ_in():
    """A chart for each number, and a map where the parameter is a place."""
    given = tuple({"speed": 0.1 * k, "goal": [k, -k], "name": "x", "fixed": 1} for k in range(20))
    drawn = task_charts(replace(evaluated(20), tasks=given))
    assert titles(drawn) == ["Return by speed", "Return by goal"]
    assert drawn[0].count('<path class="mark c4 bare"') == 20 + 1  # and one in the legend
    assert "task 20: 19" in drawn[1]
    assert "17.0 to 19.0" not in drawn[1]  # seven groups of 20 tasks: three at first, then two
    assert "18.0 to 19.0" in drawn[1]
    assert task_charts(evaluated(2)) == []
    odd = ({"a": 1e308}, {"a": [1]}, {"a": None}, {})
    assert task_charts(replace(evaluated(4), tasks=odd)) == []


def test_commands_repeat_the_evaluation():
    made = {"iteration": 3, "seed": 7, "checkpoint": "best", "shots": "$(x)" * 20}
    lines = commands("runs/my run", evaluated(5, made_from=made)).splitlines()
    assert lines == [
        "metarl train --config 'runs/my run/config.yaml' --run-dir 'runs/my run-again'",
        "metarl evaluate 'runs/my run' --tasks 5 --steps 1 --episodes 1 --checkpoint best --seed 7",
        "metarl report 'runs/my run'",
    ]
