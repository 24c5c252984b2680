"""The scripts run: benchmarks on sizes too small to measure anything, comparisons on copies."""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from metarl import train
from metarl.config.checks import differences
from metarl.envs.metaworld import distribution, goals
from metarl.experiments.assembly import run_config

ROOT = Path(__file__).resolve().parents[1]
UPDATE = "--tasks 2 --episodes 2 --steps 5 --repeats 1"


@pytest.fixture
def script(monkeypatch, tmp_path, capfd):
    """Runs a script with arguments, as its command does; returns what it printed."""
    for module in (goals, distribution):  # drawing all of Meta-World's takes most of the time
        monkeypatch.setattr(module, "GOALS", 2)
    monkeypatch.setenv("METARL_CACHE", str(tmp_path))

    def run(name: str, *argv: str) -> str:
        path = ROOT / "scripts" / name
        monkeypatch.syspath_prepend(str(path.parent))
        monkeypatch.setattr(sys, "argv", [str(path), *argv])
        runpy.run_path(str(path), run_name="__main__")
        return capfd.readouterr().out

    return run


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("bench_update.py", UPDATE),
        ("bench_update.py", f"{UPDATE} --agents promp rl2 reptile-ppo lslr-ppo lslr-trpo"),
        ("bench_sampling.py", f"{UPDATE} --only mujoco --vector-envs 2"),
        ("bench_metaworld.py", f"{UPDATE} --name ml1:reach-v3 --hidden 8 --no-async"),
        ("few_shot_memory.py", "--preset sinusoid-lomaml --steps 2"),
    ],
)
def test_a_benchmark_prints_figures(script, name, sizes):
    assert re.search(r"\d", script(name, *sizes.split()))


@pytest.mark.parametrize(
    ("name", "runs", "picture", "rows"),
    [
        ("compare_agents.py", "halfcheetah-vel-agents", "agents.png", 20),
        ("compare_learners.py", "few-shot", "learners.png", 21),
    ],
)
def test_the_tables_of_the_committed_runs_are_those_of_the_docs(
    script, tmp_path, name, runs, picture, rows
):
    shutil.copytree(ROOT / "results" / runs, tmp_path / runs)
    (tmp_path / runs / picture).unlink()
    said = script(name, str(tmp_path / runs))
    printed = [line for line in said.splitlines() if re.match(r"\| [a-z]", line)]
    docs = (ROOT / "docs" / "results.md").read_text(encoding="utf-8").splitlines()
    assert len([line for line in printed if "| 0 |" not in line]) == rows
    assert not {*printed} - {*docs}
    assert (tmp_path / runs / picture).stat().st_size > 10_000


def test_optimal_returns_of_bandits_are_ordered(script):
    """An index policy beats Thompson sampling, and who knows the best arm beats both."""
    said = script("bandit_optima.py", "--arms", "2", "--pulls", "20", "--bandits", "2000")
    gittins, thompson, informed = map(float, re.findall(r"(\d+\.\d+) \(", said))
    assert thompson < gittins < informed


def test_the_comparison_asks_for_the_settings_of_the_committed_runs():
    """Whatever the defaults become: the commands make runs like those under results/."""
    runs = ROOT / "results" / "halfcheetah-vel-agents"
    compared = runpy.run_path(str(ROOT / "scripts" / "compare_agents.py"))
    for name, line in compared["SETTINGS"].items():
        asked, _ = train.read(line.split())
        made = run_config(runs / name)
        assert differences(replace(asked, run_dir=""), replace(made, run_dir="")) == {}, name
