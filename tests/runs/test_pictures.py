"""Curves side by side, in a table, in pictures and in the report."""

import numpy as np
import pytest

from metarl.errors import UserError
from metarl.published import Curve, Published
from metarl.runs import directory, environment, plot_style
from metarl.runs.adaptation import Adaptation, Outcome, write_json
from metarl.runs.adaptation_plot import adaptation_figure
from metarl.runs.comparison import Kind, curves, text_table
from metarl.runs.metrics import line
from metarl.runs.report import render, write_report
from metarl.runs.training_plot import training_figure

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


def test_pictures_repeat_and_leave_matplotlib_as_it_was(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    plot_style.save(tmp_path / "a.png", adaptation_figure(example()))
    assert plot_style.png(adaptation_figure(example())) == (tmp_path / "a.png").read_bytes()
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(("count", "success"), [(1, False), (70, True)])
def test_the_training_figure(count, success):
    figure = training_figure(rows(count, success), "run")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    kl = "KL divergence of the meta-update"
    assert titles == ["return", *(["success"] if success else []), kl, "line search"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["before adaptation", "after 1 step"]
    plot_style.png(figure, dpi=30)


def test_a_run_that_only_has_returns():
    only = [{k: v for k, v in row.items() if not k.startswith(("kl", "line"))} for row in rows(2)]
    assert len(training_figure(only, "run").axes) == 1


def test_the_report_holds_everything_and_fetches_nothing():
    hostile = "<script>alert(1)</script>"
    described = {"versions": {"torch": "2.13.0"}, "git": None}
    page = render(hostile, f"name: {hostile}\n", described, rows(3), example(True), PUBLISHED)
    assert hostile not in page
    assert page.count("&lt;script&gt;") >= 3  # title, heading, config
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page
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


def test_no_run_no_report(tmp_path):
    with pytest.raises(UserError, match="no run directory"):
        write_report(tmp_path / "missing")
