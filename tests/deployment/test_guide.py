"""docs/deploy.md, run as a reader would."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
from catalogue_rows import every_rule
from saved_runs import saved, saved_examples

from metarl.commands import export
from metarl.config.settings import FewShotEnvConfig

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
SCRIPTS = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", GUIDE, re.M | re.S))
ROBOT = """
from metarl.config.settings import EnvConfig
from metarl.envs.catalogue import configured
from saved_runs import OneTask

def make_env():
    return OneTask(configured(EnvConfig("point-goal", 6)), {"goal": [0.3, -0.2]})
"""
QUICK = {"maml-trpo", "rl2", "oracle-trpo"}
AGENTS = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in every_rule("episodes")
]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with the reader's module in it, where scripts run."""
    (tmp_path / "my_robot.py").write_text(ROBOT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(name: str) -> dict:
    Path(name).write_text(SCRIPTS[name])
    return runpy.run_path(name)


def test_every_block_is_a_script():
    assert len(SCRIPTS) == GUIDE.count("```python") == 5


@pytest.mark.parametrize("name", AGENTS)
def test_one_script_serves_every_agent(name, here):
    """Ten lines after the imports, and the policy is then used without the run."""
    saved(here / "runs" / "mine", name)
    after = SCRIPTS["deploy.py"].split("\n\n")[1].splitlines()
    assert len(after) <= 12
    found = run("deploy.py")
    assert found["ended"]
    (here / "runs").rename(here / "gone")
    assert run("act.py")["policy"].facts["agent"] == name


@pytest.mark.parametrize("name", ["maml-trpo", "rl2"])
def test_tasks_and_recordings(name, here):
    saved(here / "runs" / "mine", name)
    assert len(run("tasks.py")["tasks"]) == 3
    assert run("recorded.py")["adapted"].facts["recorded"] == 4


def test_few_shot(here):
    saved_examples(here / "runs" / "digits", "maml", FewShotEnvConfig("digits"))
    found = run("few.py")
    assert found["same"] == found["adapted"].predict(found["images"][found["query"]])
    assert set(found["same"]) <= {f"digit {x}" for x in range(5, 10)}


def test_the_commands_have_flags_that_exist(here):
    saved(here / "runs" / "mine", "maml-trpo")
    lines = re.findall(r"^    metarl export (.*)$", GUIDE, re.M)
    assert len(lines) == 3
    for line in lines:
        options, _, _ = export.read(shlex.split(line))
        assert options.out.startswith("policies/mine")
