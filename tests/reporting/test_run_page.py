"""The page of a run: films, further evaluations, and what it tells of other folders."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from reported_runs import HOSTILE, adaptation, make_hostile, make_run

from metarl.reporting.films import MOST_FILM
from metarl.reporting.report import write_report
from metarl.runs.adaptation import write_json
from metarl.runs.directory import RunDirectory

GIF = b"GIF89a" + bytes(100)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.chdir(tmp_path)
    return RunDirectory(make_run(tmp_path / "runs" / "mine"))


def film(run: RunDirectory, name: str, content: bytes) -> None:
    (run.root / "films").mkdir(exist_ok=True)
    (run.root / "films" / name).write_bytes(content)


def test_small_films_are_part_of_the_page_and_large_ones_are_linked(run):
    film(run, "small.gif", GIF)
    film(run, "large film.gif", GIF + bytes(MOST_FILM))
    film(run, "large film.png", b"\x89PNG\r\n\x1a\nstrip")
    film(
        run, "small.json", b'{"labels": ["(1, 2)"], "steps": [0, 2], "returns": [[-31.62, -16.0]]}'
    )
    page = write_report(run.root).read_text()
    assert base64.b64encode(GIF).decode() in page
    assert "task (1, 2); adaptation steps 0, 2; return -31.6 → -16.0" in page
    assert '<a href="films/large%20film.gif">' in page
    assert base64.b64encode(b"\x89PNG\r\n\x1a\nstrip").decode() in page
    assert len(page) < 1_000_000


def test_what_is_no_film_is_left_out(run):
    film(run, "page.gif", b"<script>alert(1)</script>")
    film(run, "page.mp4", GIF)
    assert 'id="films"' not in write_report(run.root).read_text()


def test_further_evaluations_have_a_row_and_charts(run):
    folder = run.evaluation.root / "later"
    folder.mkdir()
    other = replace(adaptation(3), env="other-env", split="own")
    write_json(folder / "adaptation.json", other)
    page = write_report(run.root).read_text()
    assert "Evaluation later</h2>" in page
    assert "<td>later</td>" in page
    assert "Own tasks, not held-out ones" in page


def test_a_page_tells_no_other_folder(run, monkeypatch, tmp_path):
    assert "metarl report runs/mine" in write_report(run.root).read_text()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    page = write_report(run.root).read_text()
    assert "metarl report mine" in page
    assert str(tmp_path) not in page


def test_a_strangers_names_are_text(tmp_path):
    page = write_report(make_hostile(tmp_path / "run")).read_text()
    assert page.count("<script") == 1
    assert "<img src=x" not in page
    assert not set("\u202e\x1b") & set(page)
    assert HOSTILE not in page
    assert not re.search(r"[\"' ](nan|inf|-inf)[\"' ]", page)


def test_the_policy_names_the_pages_own_script(run):
    page = write_report(run.root).read_text()
    for kind in ("script", "style"):
        (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in page.replace("&#39;", "'")
    assert "default-src 'none'" in page
    assert " style=" not in page  # which the policy would refuse
