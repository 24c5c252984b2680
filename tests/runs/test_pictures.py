"""Curves side by side, in a table, in pictures and in the report."""

import base64
import re
from dataclasses import replace

import numpy as np
import pytest

from metarl.errors import UserError
from metarl.experiments.published import Curve, Published
from metarl.reporting.report import write_report
from metarl.reporting.run_page import render
from metarl.runs import directory, environment, plot_style
from metarl.runs.adaptation import Adaptation, Outcome, write_json
from metarl.runs.adaptation_plot import adaptation_figure
from metarl.runs.comparison import Kind, curves, text_table
from metarl.runs.measures import ACCURACY, MEAN_SQUARED_ERROR, Measure
from metarl.runs.metrics import line

PUBLISHED = Published(
    source="the paper",
    horizon=200,
    curves={"MAML": Curve((-130.0, -80.0), (8.0, 5.0)), "joint": Curve((-158.0,))},
    oracle=Curve((-54.5,)),
)


def example(success: bool = False, other: bool = False) -> Adaptation:
    returns = -100 + 10.0 * np.arange(24).reshape(3, 2, 4)
    return Adaptation(
        "half-cheetah-vel", "maml-trpo", "test", (0, 1), (0, 800),
        tuple({"velocity": v} for v in (0.5, 1.0, 1.5)),
        Outcome(returns, returns > 0 if success else None),
        {"random initialisation": Outcome(returns - 50, None, (0, 900))},
        {"runs/other": Outcome(returns + 1)} if other else {},
    )  # fmt: skip


def rows(count: int, success: bool = False) -> list[dict[str, float]]:
    found = [
        {"iteration": i, "env_steps": 1000 * i, "wall_s": 2.0 * i, "return/step0": -100.0,
         "return/step1": -90.0 + i, "kl": 0.01, "line_search/backtracks": 0}
        for i in range(1, count + 1)
    ]  # fmt: skip
    return (
        [{**row, "success/step0": 0.0, "success/step1": 0.5} for row in found] if success else found
    )


def few_shot(tasks: int = 3, measure: Measure = MEAN_SQUARED_ERROR) -> Adaptation:
    """Three tasks have 0.1, 0.2 and 0.3 before; after, errors are a tenth, accuracies 1 less it."""
    before = 0.1 * np.arange(1, tasks + 1) / max(1, tasks / 10)
    after = before / 10 if measure.lower_is_better else 1 - before
    values = np.stack([before, after], axis=1)[..., None]
    return Adaptation(
        "sinusoid", "maml", "test", (0, 1), (0, 10), tuple({"task": k} for k in range(tasks)),
        Outcome(values), {"random initialisation": Outcome(values / 2)},
        made_from={"iteration": 100}, measure=measure,
    )  # fmt: skip


def few_shot_rows(count: int, classes: bool) -> list[dict[str, float]]:
    found = [
        {"iteration": i, "tasks": 2500 * i, "wall_s": 2.0 * i, "loss/step0": 4.0,
         "loss/step1": 1.0 / i, "gradient_norm": 0.5, "time/update_s": 1.0}
        for i in range(1, count + 1)
    ]  # fmt: skip
    accuracy = {"accuracy/step0": 0.2, "accuracy/step1": 0.9}
    return [{**row, **accuracy} for row in found] if classes else found


def test_curves_come_in_their_order():
    found = curves(example(other=True), PUBLISHED)
    assert [c.env_steps for c in found[:3]] == [(0, 800), (0, 800), (0, 900)]
    assert [(c.name, c.kind) for c in found] == [
        ("maml-trpo", Kind.RUN),
        ("runs/other", Kind.OTHER),
        ("random initialisation", Kind.CONTROL),
        ("MAML", Kind.PUBLISHED),
        ("joint", Kind.PUBLISHED),
        ("oracle", Kind.ORACLE),
    ]


def test_the_table_for_a_terminal():
    """Task means at step 0 are -85, -5, 75; at step 1, 40 more."""
    lines = text_table(curves(example(success=True), published=PUBLISHED)).splitlines()
    assert lines[0].split() == (
        "learner steps env steps return stderr iqm 95% interval success 95% interval".split()
    )
    assert lines[2].startswith("maml-trpo (this run)")
    assert " 800 " in lines[2]
    assert " 35.0 " in lines[2]
    assert " 46.2 " in lines[2]
    assert lines[5].split() == ["MAML", "(published)", "0", "-130.0", "8.0"]
    assert lines[-1].split() == ["oracle", "(published)", "-54.5"]


def test_the_table_of_few_shot_tasks():
    """Means are 0.2 before and 0.02 after; the control has half of it."""
    lines = text_table(curves(few_shot())).splitlines()
    assert lines[0].split() == (
        "learner steps examples mean-squared error stderr iqm 95% interval".split()
    )
    assert lines[2].split()[3:7] == ["1", "10", "0.0200", "0.0058"]
    assert lines[-1].split()[4:6] == ["10", "0.0100"]
    share = text_table(curves(few_shot(measure=ACCURACY))).splitlines()
    assert share[2].split()[3:6] == ["1", "10", "80.0%"]
    assert share[2].endswith("70.0 to 90.0%")


def test_a_learner_that_diverged_is_shown_as_one():
    whole = few_shot()
    values = whole.outcome.values.copy()
    values[1, 1] = np.nan
    diverged = replace(whole, outcome=Outcome(values))
    assert "not finite" in text_table(curves(diverged)).splitlines()[2]
    assert plot_style.png(adaptation_figure(diverged), dpi=30)
    lost = replace(whole, outcome=Outcome(np.full_like(values, np.nan)), controls={})
    assert plot_style.png(adaptation_figure(lost), dpi=30)


def lines_of(axes) -> dict[str, np.ndarray]:
    return {axis_line.get_color(): axis_line.get_xydata() for axis_line in axes.lines}


@pytest.mark.parametrize("success", [True, False])
def test_the_adaptation_figure_shows_the_means(success):
    figure = adaptation_figure(example(success, other=True), PUBLISHED)
    by_steps, by_env_steps, *solved = figure.axes
    np.testing.assert_allclose(lines_of(by_steps)[plot_style.BLUE], [[0, -5], [1, 35]])
    np.testing.assert_allclose(lines_of(by_env_steps)[plot_style.BLUE], [[0, -5], [800, 35]])
    blue = [each for each in by_env_steps.lines if each.get_color() == plot_style.BLUE]
    assert [np.asarray(each.get_xdata()).tolist() for each in blue] == [
        [0, 800]
    ] * 4  # three tasks, their mean
    assert len(solved) == success
    if success:
        np.testing.assert_allclose(lines_of(solved[0])[plot_style.BLUE], [[0, 5 / 12], [1, 2 / 3]])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:4] == [
        "maml-trpo",
        "runs/other",
        "random initialisation (control)",
        "MAML (published)",
    ]
    assert figure.get_supxlabel().startswith("Published: the paper")


def test_a_computed_optimum_is_not_called_published():
    known = PUBLISHED._replace(origin="computed", source="by hand")
    figure = adaptation_figure(example(True), known)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "MAML (computed)" in labels
    assert not any("published" in label for label in labels)
    assert figure.get_supxlabel().startswith("Computed: by hand")


@pytest.mark.parametrize("tasks", [3, 100])
def test_the_figure_of_errors(tasks):
    figure = adaptation_figure(adaptation := few_shot(tasks))
    (axes,) = figure.axes
    assert axes.get_subplotspec().get_geometry()[:2] == (1, 1)  # type: ignore
    blue = [each for each in axes.lines if each.get_color() == plot_style.BLUE]
    assert len(blue) == min(tasks, 60) + 1
    expected = np.c_[[0, 1], adaptation.outcome.values.mean(axis=(0, 2))]
    np.testing.assert_allclose(blue[-1].get_xydata(), expected)  # type: ignore
    assert axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    assert low < 0.05 * expected[0, 1]  # half of a tenth, the control's
    assert high > expected[0, 1]
    assert axes.get_ylabel() == "mean-squared error on the query"
    assert figure.get_suptitle() == f"maml on sinusoid: {tasks} test tasks, 10 examples in each"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[2] == ("its tasks, one by one" if tasks == 3 else "60 of its tasks")


def test_errors_of_one_size_start_at_zero():
    adaptation = few_shot()
    alike = Outcome(1.0 + 0.1 * adaptation.outcome.values)
    (axes,) = adaptation_figure(replace(adaptation, outcome=alike, controls={})).axes
    assert axes.get_yscale() == "linear"
    assert axes.get_ylim()[0] == 0


def test_the_figure_of_accuracies():
    (axes,) = adaptation_figure(few_shot(measure=ACCURACY)).axes
    assert axes.get_ylim() == (-0.02, 1.02)
    assert axes.yaxis.get_major_formatter()(0.5, 0) == "50%"  # type: ignore


def test_pictures_repeat_and_leave_matplotlib_as_it_was(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    plot_style.save(tmp_path / "a.png", adaptation_figure(example()))
    assert plot_style.png(adaptation_figure(example())) == (tmp_path / "a.png").read_bytes()
    assert dict(matplotlib.rcParams) == before


def charts(page: str) -> list[str]:
    """Returns the titles of a page's charts."""
    return re.findall("<figcaption><b>(.*?)</b>", page)


def test_the_report_holds_everything_and_fetches_nothing():
    hostile = "<script>alert(1)</script>"
    described = {"versions": {"torch": "2.13.0"}, "git": None}
    page = render(hostile, f"name: {hostile}\n", described, rows(3), [example(True)], PUBLISHED)
    assert hostile not in page
    assert page.count("&lt;script&gt;") >= 3  # title, heading, config
    assert charts(page) == [
        "Return by adaptation steps", "Return by environment steps",
        "Episodes solved by adaptation steps", "Return by velocity", "Return", "Return",
        "Gap between before and after adaptation",
    ]  # fmt: skip
    assert "http:" not in page
    assert "https:" not in page
    for part in ("versions.torch", "2.13.0", "-5.0 → 35.0", "42% → 67%", "oracle (published)"):
        assert part in page


def test_a_run_without_an_evaluation_has_a_report_too(tmp_path):
    run = directory.create(tmp_path / "x")
    run.config.write_text("seed: 7\n")
    page = write_report(run.root).read_text()
    assert "seed: 7" in page
    assert "Not evaluated yet" in page
    assert "No iteration" in page


def test_a_report_is_made_from_a_runs_folder(tmp_path):
    run = directory.create(tmp_path / "my-run")
    run.config.write_text("seed: 7\n")
    environment.write(run.environment, environment.describe("cpu", {"torch": 2}))
    run.metrics.write_bytes(b"".join(map(line, rows(3))))
    write_json(run.evaluation.adaptation_json, example())
    assert write_report(run.root, PUBLISHED) == run.report
    page = run.report.read_text()
    assert "<title>my-run" in page
    assert "threads.torch" in page
    assert "the paper" in page
    assert page.count('<tr class="own') == 2


def test_the_report_of_a_few_shot_run(tmp_path):
    run = directory.create(tmp_path / "few")
    run.config.write_text("seed: 7\n")
    run.metrics.write_bytes(b"".join(map(line, few_shot_rows(3, False))))
    write_json(run.evaluation.adaptation_json, few_shot())
    page = write_report(run.root).read_text()
    facts = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", page))
    assert facts == {
        "mean-squared error before and after 1 adaptation step": "0.2000 → 0.0200",
        "iterations": "3",
        "tasks learned from": "7.50k",
        "training time": "0:06",
    }
    for word in ("episode", "Return", "undiscounted", "environment step", "Predictions"):
        assert word not in page
    assert "same\n10 examples" in page
    errors = ["Mean-squared error by adaptation steps", "Mean-squared error by task"]
    assert charts(page)[:4] == [*errors, "Loss", "Loss"]
    png = plot_style.png(adaptation_figure(few_shot()), dpi=20)
    run.evaluation.predictions_png.write_bytes(png)
    page = write_report(run.root).read_text()
    assert "Predictions, test tasks" in page
    assert base64.b64encode(png).decode() in page


def test_no_run_no_report(tmp_path):
    with pytest.raises(UserError, match="no run directory"):
        write_report(tmp_path / "missing")
