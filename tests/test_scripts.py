"""The scripts run: benchmarks on sizes too small to measure anything, comparisons on copies."""

from __future__ import annotations

import importlib
import json
import re
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from metarl.commands import evaluate, train
from metarl.config.checks import differences
from metarl.envs.metaworld import distribution, goals
from metarl.experiments.assembly import run_config
from metarl.experiments.published import PUBLISHED
from metarl.threads import cores

ROOT = Path(__file__).resolve().parents[1]
UPDATE = "--tasks 2 --episodes 2 --steps 5 --repeats 1"


@pytest.fixture
def scripts_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


@pytest.fixture
def script(scripts_on_path, monkeypatch, tmp_path, capfd):
    """Runs a script with arguments, as its command does; returns what it printed."""
    for module in (goals, distribution):  # drawing all of Meta-World's takes most of the time
        monkeypatch.setattr(module, "GOALS", 2)
    monkeypatch.setenv("METARL_CACHE", str(tmp_path))

    def run(name: str, *argv: str) -> str:
        path = ROOT / "scripts" / name
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


def test_agreement_of_gradients_is_a_cosine(script):
    """TRPO takes no such gradient."""
    runs, sizes = ROOT / "results" / "halfcheetah-vel-agents", "--batches 2 --tasks 2 --episodes 2"
    said = script("gradient_noise.py", *sizes.split(), str(runs / "maml-ppo"))
    (row,) = re.findall(r"^\| maml-ppo \| 1,600 \| (-?[\d.]+) \|$", said, re.M)
    assert -1.0 < float(row) < 1.0  # the batches are not the same
    with pytest.raises(SystemExit, match="trained by maml-trpo; give runs of the MAML family"):
        script("gradient_noise.py", *sizes.split(), str(runs / "maml-trpo"))


def test_scaling_is_measured_in_turns_and_predicted(script, tmp_path):
    """Each number of workers takes a turn of each case."""
    counts = [1, 2][: cores().count]
    sizes = "--tasks 3 --episodes 2 --horizon 5 --repeats 1 --workers " + " ".join(map(str, counts))
    said = script("bench_scaling.py", *f"--only cartpole 50us {sizes} --out {tmp_path}".split())
    assert len(re.findall(r"^ +[12] +\d.*$", said, re.M)) == 2 * len(counts)
    assert len(re.findall(r"^ 10,000 .*$", said, re.M)) == 2
    found = json.loads((tmp_path / "scaling.json").read_text())["cases"]
    assert {name: [x["workers"] for x in points] for name, points in found.items()} == {
        "cartpole": counts,
        "50us": counts,
    }
    point = found["cartpole"][0]
    assert point["env_steps"] == [2 * 3 * 2 * 5]  # rounds, tasks, episodes, steps
    worked, played, sampled = (point[x][0] for x in ("slowest_s", "rounds_s", "sampling_s"))
    assert 0 < point["mean_s"][0] <= worked < played < sampled
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


def test_the_sections_for_a_gpu_run_on_the_cpu_too(script, tmp_path, capfd):
    """A section that fails keeps what it measured, and the next one runs."""
    argv = "--small --device cpu --only iterations update --presets point-goal nonsense"
    with pytest.raises(SystemExit, match="1"):
        script("bench_gpu.py", *argv.split(), "--out", str(tmp_path))
    said = capfd.readouterr().out
    assert "iterations ended with exit code 1" in said
    assert "update ended after" in said
    (row,) = json.loads((tmp_path / "iterations.json").read_text())
    assert (row["preset"], row["iterations"]) == ("point-goal", 100)
    assert row["turns"][0]["env_steps"] == 2 * 10 * 2 * 5  # rounds, tasks, episodes, steps
    exact, *others = json.loads((tmp_path / "update.json").read_text())
    assert (exact["precision"], exact["accepted"]) == ("float32", 1.0)
    assert exact["cosine"] == pytest.approx(1.0)
    assert all(x["cosine"] > 0.99 for x in others)


def test_the_model_of_scaling_finds_the_times_that_it_was_made_of(scripts_on_path):
    """Ten units of 2 s on 1, 2 and 4 workers after 3 s alone; an update of 1 s + 8 s / N."""
    model = importlib.import_module("scaling_model")
    times = {1: (23.0, 9.0), 2: (13.0, 5.0), 4: (9.0, 3.0)}
    points = [
        model.Measured(n, 10, [1], [s], [u], [0.0], [0.0], [0.0]) for n, (s, u) in times.items()
    ]
    sampling, update = model.sampling_model(points), model.update_model(points)
    assert (sampling.serial_s, sampling.unit_s) == pytest.approx((3.0, 2.0))
    assert (update.held_s, update.divided_s) == pytest.approx((1.0, 8.0))
    assert sampling.seconds(100) == pytest.approx(5.0)  # one unit cannot be divided
    assert sampling.seconds(8, 2.0) == pytest.approx(2 * 3.0 + 3 * 2.0)  # 20 units on 8 workers
    # Where rounds are measured, the time in which no worker works is the serial part. Here
    # 1 s + 4 s / N are between rounds, on one machine of at most 64 cores.
    known = [
        replace(x, sampling_s=[8.0 + 1.0 + 4.0 / x.workers], rounds_s=[8.0], slowest_s=[6.0])
        for x in (replace(point, mean_s=[4.0]) for point in points)
    ]
    assert (known[-1].serial, known[-1].between, known[-1].uneven) == pytest.approx(
        (0.25, 0.2, 1.5)
    )
    measured = model.sampling_model(known)
    assert (measured.serial_s, measured.unit_s) == pytest.approx((2.0, 6.0 / 3))
    assert measured.seconds(1000) == pytest.approx(2.0 + 2.0 + 1.0 + 4.0 / 64)


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


def test_computed_figures_beside_evaluations_are_those_of_the_script(script):
    """Within what the drawn tasks leave open: 300 here, 4,000 where the figures come from."""
    said = script("array_optima.py", "--tasks", "300")
    shown = {}
    for line in said.splitlines():
        if not line.startswith(" "):
            name, horizon = re.findall(r"^(\S+), (\d+) steps: ", line)[0]
            continue
        policy = line[:20].strip()
        shown[name, policy] = [float(x) for x in line[20:].partition("sum")[0].split()]
        if (known := PUBLISHED.get(name)) and known.origin == "computed":
            assert known.horizon == int(horizon)
    known = {name: each for name, each in PUBLISHED.items() if each.origin == "computed"}
    for name, each in known.items():
        for policy, curve in each.curves.items():
            found = shown[name, {"best without memory": "without"}.get(policy, policy)]
            assert found == pytest.approx(list(curve.mean), rel=0.06), (name, policy)
    assert len(known) == 7
    assert shown["tabular-mdp", "told the MDP"] == pytest.approx([21.83], rel=0.03)


def test_a_run_is_shown_beside_the_optimum_on_its_tasks(script, tmp_path):
    run = tmp_path / "run"
    few = "--iterations 1 --sampling.tasks 4 --agent.inner.size 4 --workers 0"
    train.main(["grid-navigation-rl2", *few.split(), "--run-dir", str(run)])
    evaluate.main([str(run), "--tasks", "3", "--workers", "0"])
    said = script("array_optima.py", str(run)).split("run, grid-navigation: 3 tasks\n")[1]
    assert re.search(r"rl2 +-?\d.*sum", said)
    assert re.search(r"Bayes-optimal +4.000 +11.071 +11.071 +11.071 +sum +37.214", said)


def test_the_comparison_asks_for_the_settings_of_the_committed_runs():
    """Whatever the defaults become: the commands make runs like those under results/."""
    runs = ROOT / "results" / "halfcheetah-vel-agents"
    compared = runpy.run_path(str(ROOT / "scripts" / "compare_agents.py"))
    for name, line in compared["SETTINGS"].items():
        asked, _ = train.read(line.split())
        made = run_config(runs / name)
        assert differences(replace(asked, run_dir=""), replace(made, run_dir="")) == {}, name
