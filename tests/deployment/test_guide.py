"""docs/deploy.md, run as a reader would."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from catalogue_rows import every_rule
from saved_runs import OneTask, saved, saved_examples

import metarl
from metarl.commands import export
from metarl.config.settings import FewShotEnvConfig

GUIDE_FILE = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"
GUIDE = GUIDE_FILE.read_text(encoding="utf-8")
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
    """Returns what a script defines; it runs as it is imported."""
    module = f"guide_{Path(name).stem}"
    Path(f"{module}.py").write_text(SCRIPTS[name])
    sys.modules.pop(module, None)
    importlib.invalidate_caches()
    return vars(importlib.import_module(module))


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
        options, *_ = export.read(shlex.split(line))
        assert options.out.startswith("policies/mine")


class Reusing(OneTask):
    """Writes all observations into one array, as many simulators do."""

    def __init__(self, tasks, task):
        super().__init__(tasks, task)
        self.obs = np.zeros(2, np.float32)

    def reset(self, **given):
        self.obs[:], info = super().reset(**given)
        return self.obs, info

    def step(self, action):
        self.obs[:], *rest = super().step(action)
        return self.obs, *rest


def test_an_agent_of_ones_own(here, tmp_path):
    """That of docs/agents.md: the same episodes step by step in one environment, and no file."""
    text = (GUIDE_FILE.parent / "agents.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n# my_agents.py\n(.*?)^```$", text, re.M | re.S)
    (here / "my_agents.py").write_text(code)
    run_dir, place = here / "runs" / "own", "my_agents:LinearReptile"
    saved(run_dir, place)
    with pytest.raises(metarl.UserError, match="run only where"):
        metarl.load(run_dir)
    loaded = metarl.load(run_dir, agent=place)
    task = {"goal": [0.3, -0.2]}
    other, together = loaded.adapt([{"goal": [0.1, 0.1]}, task], episodes=3, steps=2)
    alone = loaded.adapt(task, episodes=3, steps=2)
    found = loaded.adapt(Reusing(loaded.base, task), episodes=3, steps=2)
    for expected, support in zip(alone._adapted.supports, found._adapted.supports, strict=True):
        for name in ("obs", "actions", "rewards", "mask", "final_obs", "truncated"):
            ours, theirs = getattr(support, name).float(), getattr(expected, name).float()
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(support.behaviour.mean, expected.behaviour.mean)
    obs = np.array([0.1, 0.3], np.float32)
    np.testing.assert_allclose(found.act(obs), alone.act(obs), atol=1e-6)
    found.observe(0.0)
    assert found.act(obs, explore=True).shape == (2,)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(other.act(obs), together.act(obs), atol=1e-6)
    with pytest.raises(metarl.UserError, match="agent of your own"):
        found.save(tmp_path / "policy")
