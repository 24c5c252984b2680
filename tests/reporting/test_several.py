"""Pages of several runs, of seeds and of a folder of runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from reported_runs import HOSTILE, make_hostile, make_run
from scipy import stats

from metarl.commands import report
from metarl.errors import UserError
from metarl.reporting.seed_charts import _lines, _Series
from metarl.runs import output


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two learners, one with three seeds, and a run on other tasks that was not evaluated."""
    for seed in (1, 2, 3):
        make_run(tmp_path / "runs" / "maml" / f"seed{seed}", seed)
    make_run(tmp_path / "runs" / "promp", 4, lr=0.3)
    make_run(tmp_path / "runs" / "bandit", 5, env="bandit", evaluated=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def said(page: str) -> str:
    """Returns the text of a page without its marks."""
    return " ".join(re.sub("<[^>]*>", " ", page).split())


def test_learners_are_compared_with_their_seeds(runs, capsys):
    report.main("runs/maml runs/promp runs/bandit --out page.html".split())
    page = Path("page.html").read_text()
    assert capsys.readouterr().out.strip() == "page.html"
    assert output.REPORT_OF.format(output.SEVERAL) in page
    titles = re.findall("<figcaption><b>(.*?)</b>", page)
    assert titles[:4] == ["Return after 1 step"] * 2 + ["Success after 1 step"] * 2
    assert "Performance profile" in titles
    assert titles.count("Return after 1 step") == 4  # of both task distributions
    assert "<td>maml</td><td>3</td><td>8</td>" in page
    assert "Without an evaluation on held-out tasks: bandit." in page
    assert "agent.inner.lr 0.1 0.3 0.1" in said(page)
    assert "agent.name" not in page  # the same for all
    assert "<td>seed</td>" in page
    assert len(page) < 2_000_000


def test_seeds_of_one_folder(runs):
    report.main(["runs/maml"])
    page = (runs / "maml" / "report.html").read_text()
    assert "these are seeds of one experiment" in page
    assert all(f"maml/seed{seed}" in page for seed in (1, 2, 3))
    report.main(["runs/maml"])  # which replaces its own page


def test_a_folder_of_runs_is_a_table(runs):
    make_hostile(runs / "a\"b<i>'c")
    (runs / "promp" / "report.html").write_text("<html>")
    (runs / "broken").mkdir()
    make_run(runs / "broken" / "x")
    (runs / "broken" / "x" / "metrics.jsonl").write_text("no JSON\n")
    report.main(["runs"])
    page = (runs / "report.html").read_text()
    for name in ("maml/seed1", "promp", "bandit"):
        assert name in said(page)
    assert '<a href="promp/report.html">promp</a>' in page
    assert "not evaluated" in page
    assert "metrics.jsonl, line 1 holds no metrics" in page
    assert HOSTILE not in page
    assert "<i>" not in page


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("runs/maml runs/promp", "2 folders are given; name their page with --out FILE.html"),
        ("runs/maml runs/maml --out a.html", "are the same folder"),
        ("runs/maml runs/none --out a.html", "runs/none is no run, and no folder of seeds"),
        ("runs/maml runs/promp --out a.txt", "give an .html file"),
        ("runs/maml --out mine.html", "mine.html is there already and no page of several runs"),
        ("runs --out runs/promp/a.html", "which puts files into the folder of the run"),
        ("empty", "empty is no run, and there are no runs below it"),
        ("runs --out file/a.html", "cannot be written"),
    ],
)
def test_what_does_not_fit_is_said(runs, line, fault):
    Path("mine.html").write_text("mine")
    Path("file").touch()
    Path("empty").mkdir()
    with pytest.raises(UserError, match=re.escape(fault)) as told:
        report.main(line.split())
    assert len(str(told.value).splitlines()) <= 3
    assert Path("mine.html").read_text() == "mine"
    assert not Path("a.html").exists()


def test_links_are_not_followed(runs, tmp_path):
    make_run(tmp_path / "elsewhere" / "secret", 6)
    (runs / "link").symlink_to(tmp_path / "elsewhere")
    report.main(["runs"])
    assert "secret" not in (runs / "report.html").read_text()


def test_the_band_is_an_interval_of_the_mean_over_seeds():
    """As scipy has it, where each seed is a constant."""
    at = np.arange(10.0)
    values = [1.0, 2.0, 6.0]
    *seeds, whole = _lines([_Series(at, np.full(10, value)) for value in values], "c0")
    assert [line.y[0] for line in seeds] == values
    low, high = stats.t.interval(0.95, 2, loc=3.0, scale=stats.sem(values))
    assert whole.low is not None
    assert whole.high is not None
    np.testing.assert_allclose(whole.low, low)
    np.testing.assert_allclose(whole.high, high)


def test_seeds_are_compared_where_all_have_values():
    short, long = (_Series(np.arange(n), np.arange(n) * 1.0) for n in (5.0, 9.0))
    whole = _lines([short, long], "c0")[-1]
    assert (whole.x[0], whole.x[-1]) == (0, 4)
    np.testing.assert_allclose(whole.y, whole.x)
