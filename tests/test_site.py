"""The site builds without a warning and without the network, and its indexes are complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import metarl
from metarl.agents import catalogue
from metarl.experiments.presets import PRESETS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FETCHED = re.compile(
    r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^\s>]+", re.I
)
LINK = re.compile(r"\]\(([^)\s#]+)")


@pytest.mark.slow
def test_the_site_is_built_strictly_and_fetches_nothing(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    where = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [*command, "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(where), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = [*(tmp_path / "site").rglob("*.html")]
    assert len(pages) > 25
    fetched = {page.name: FETCHED.findall(page.read_text(encoding="utf-8")) for page in pages}
    assert {name: found for name, found in fetched.items() if found} == {}
    assert "arXiv" in (tmp_path / "site" / "agents.html").read_text(encoding="utf-8")
    assert (tmp_path / "site" / "llms.txt").exists()


def test_every_public_name_is_in_the_reference():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^::: metarl\.(?:library\.)?(\w+)$", text, re.M))
    assert listed == {*metarl.__all__} - {"__version__"}


def test_every_page_is_in_the_index_for_language_models():
    linked = {*LINK.findall((DOCS / "llms.txt").read_text(encoding="utf-8"))}
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert {link.replace(".html", ".md") for link in linked} == {
        *pages,
        "security.md",
        "changelog.md",
    }


def test_the_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") < 115
    links = [link for link in LINK.findall(text) if not link.startswith("http")]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_numbers_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    controls = ("joint", "oracle-trpo", "random", "sb3-ppo", "from-scratch")
    methods = {*catalogue.INNER, *catalogue.NAMED} - {*controls, "reptile-ppo"}  # Reptile is one
    count = sum(len(catalogue.names(kind)) for kind in ("episodes", "examples"))
    assert f"{len(methods)} methods and {len(controls)} controls ({count} agents" in text
    assert f"{len(PRESETS)} presets" in text
    numbers = "one two three four five six seven eight nine ten".split()
    scripts = len([*(ROOT / "examples").glob("*.py")])
    assert f"has {numbers[scripts - 1]} short scripts" in text
