"""Pages in a browser: nothing is fetched, tables sort, and nothing is wider than a telephone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
from reported_runs import adaptation, make_hostile, make_run

from metarl.commands import report
from metarl.reporting.report import write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.PROGRAM is None, reason="no Chromium is on the PATH"),
]
NAMES = ("normal", "hostile", "empty", "several", "overview")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with a page of each kind."""
    root = tmp_path_factory.mktemp("pages")
    write_report(make_run(root / "runs" / "normal", 7))
    write_report(make_hostile(root / "runs" / "hostile"))
    write_report(make_run(root / "runs" / "empty", 8, evaluated=False))
    for seed in (1, 2):
        make_run(root / "runs" / "seeds" / f"seed{seed}", seed)
    runs = str(root / "runs")
    report.main([f"{runs}/seeds", f"{runs}/normal", "--out", str(root / "several.html")])
    report.main([runs, "--out", str(root / "overview.html")])
    for name in NAMES[:3]:
        (root / f"{name}.html").write_bytes((root / "runs" / name / "report.html").read_bytes())
    return root


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    with chromium.browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.mark.parametrize("name", NAMES)
def test_a_page_fetches_nothing_and_is_as_wide_as_the_screen(tab, pages, name):
    page = pages / f"{name}.html"
    for width, dark in ((1280, False), (400, True)):
        tab.show(page, width, dark)
        outside = [url for url in tab.requests if not url.startswith("data:")]
        assert outside == [page.as_uri()]
        assert tab.messages == []
        assert tab.run("document.documentElement.scrollWidth") <= width
        assert tab.run("document.images.length") == tab.run(
            "[...document.images].filter(x => x.src.startsWith('data:')).length"
        )
        assert tab.run("document.scripts.length") == 1
    # A letter of a chart on a telephone has at least 10 pixels.
    drawn = tab.run("document.querySelector('svg.chart')?.getBoundingClientRect().width ?? 380")
    assert 12 * drawn / 380 >= 10


def test_a_table_sorts(tab, pages):
    tab.show(pages / "normal.html")
    last = (
        "[...document.querySelectorAll('table.sortable tbody tr')].map(r => r.cells[{}].innerText)"
    )
    column = tab.run("[...document.querySelectorAll('table.sortable th')].length") - 3
    before = tab.run(last.format(column))
    click = f"document.querySelectorAll('table.sortable th')[{column}].firstChild.click()"
    tab.run(click)
    rising = tab.run(last.format(column))
    assert rising == sorted(before, key=float)
    tab.run(click)
    assert tab.run(last.format(column)) == rising[::-1]
    assert tab.run("document.querySelector('th[aria-sort]').getAttribute('aria-sort')") == (
        "descending"
    )
    marks = tab.run("[...document.querySelectorAll('tr.best')].map(r => r.cells[0].innerText)")
    assert marks == [str(len(adaptation().tasks) - k) for k in range(2)]


def test_the_theme_follows_the_system_and_the_button(tab, pages):
    colour = "getComputedStyle(document.body).backgroundColor"
    tab.show(pages / "normal.html", dark=False)
    light = tab.run(colour)
    tab.run("document.getElementById('theme').click()")
    dark = tab.run(colour)
    assert light == "rgb(255, 255, 255)"
    assert dark != light
    assert tab.run("document.getElementById('theme').innerText") == "Light page"
    tab.show(pages / "normal.html", dark=True)
    assert tab.run(colour) == dark
    tab.run("document.getElementById('theme').click()")
    assert tab.run(colour) == light


def test_no_other_script_can_run(tab, pages):
    """The page's policy knows its own script by its hash."""
    text = (pages / "normal.html").read_text()
    changed = pages / "changed.html"
    changed.write_text(text.replace("<body>", "<body><script>document.title = 'gone'</script>"))
    tab.show(changed)
    assert tab.run("document.title") != "gone"
    assert tab.messages
