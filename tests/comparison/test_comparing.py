"""Runs and folders of seeds, compared from the command line and from Python."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import metarl
from metarl.commands import compare
from metarl.comparison import statistics
from metarl.config.files import dump
from metarl.config.settings import AnyConfig
from metarl.errors import UserError
from metarl.experiments.presets import preset
from metarl.runs.adaptation import Adaptation, Outcome, write_json
from metarl.runs.measures import MEAN_SQUARED_ERROR, RETURN, Measure

TASKS = tuple({"goal": [0.1 * k, 0.0]} for k in range(6))


def run(
    folder: Path,
    level: float = 0.0,
    seed: int = 1,
    config: AnyConfig | None = None,
    tasks: Sequence = TASKS,
    steps: int = 2,
    measure: Measure = RETURN,
    split: str = "test",
    horizon: int | None = 100,
    values: np.ndarray | None = None,
    name: str = "",
) -> Path:
    """A run's folder with an evaluation whose values are about `level`."""
    evaluation = folder / "evaluation" / name
    evaluation.mkdir(parents=True)
    config = replace(config or preset("point-goal"), seed=seed)
    (folder / "config.yaml").write_text(dump(config))
    rng = np.random.default_rng([seed, round(abs(level) * 100)])
    (folder / "metrics.jsonl").write_text(f'{{"iteration": 1, "wall_s": {rng.random()}}}\n')
    if values is None:
        shape = (len(tasks), steps + 1, 4 if measure.of_episodes else 1)
        values = level + rng.random(size=shape)
    adaptation = Adaptation(
        env="point-goal",
        agent="maml-trpo",
        split=split,
        steps=tuple(range(steps + 1)),
        env_steps=tuple(100.0 * n for n in range(steps + 1)),
        tasks=tuple(tasks),
        outcome=Outcome(values),
        made_from={"iteration": 1, "horizon": horizon},
        measure=measure,
    )
    write_json(evaluation / "adaptation.json", adaptation)
    return folder


def seeds(folder: Path, count: int, level: float = 0.0, **more) -> Path:
    for seed in range(1, count + 1):
        run(folder / f"seed{seed}", level, seed, **more)
    return folder


def test_two_folders_of_seeds(tmp_path: Path, capsys):
    """The table, the picture and the numbers, which are those of the statistics."""
    a, b = seeds(tmp_path / "a", 4, 0.2), seeds(tmp_path / "b", 3)
    out = tmp_path / "out"
    compare.main([str(a), str(b), "--out", str(out)])
    said = capsys.readouterr().out
    assert "numbers of seeds differ (a 4, b 3)" in said
    assert "no ranking" not in said
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    document = json.loads((out / "compare.json").read_text())
    assert document["format"] == 1
    assert document["step"] == 2
    scores = [np.array(learner["scores"]) for learner in document["learners"]]
    assert [x.shape for x in scores] == [(4, 6), (3, 6)]
    assert document["learners"][0]["iqm"]["estimate"] == pytest.approx(statistics.iqm(scores[0]))
    (pair,) = document["pairs"]
    expected = statistics.paired_difference(scores[0], scores[1])
    assert pair["p_seeds"] == expected.p_seeds
    assert pair["difference"] == expected.difference._asdict()
    compare.main([str(a), str(b), "--out", str(out)])  # replaces its own files


def test_from_python(tmp_path: Path):
    found = metarl.compare([run(tmp_path / "x"), str(run(tmp_path / "y", 0.3))], labels=["X", "Y"])
    assert isinstance(found, metarl.Comparison)
    assert [one.learner.label for one in found.standings] == ["X", "Y"]
    assert "no ranking" in found.table()
    assert "p (seeds)" not in found.table()
    assert len(found.figure().axes) >= 3
    assert json.loads(found.json())["draw"] == "tasks"


def test_lower_errors_are_better(tmp_path: Path):
    few = {"measure": MEAN_SQUARED_ERROR, "config": preset("sinusoid-maml"), "horizon": None}
    low, high = run(tmp_path / "low", 1.0, **few), run(tmp_path / "high", 9.0, **few)
    (pair,) = metarl.compare([low, high]).pairs
    assert pair.paired.difference.estimate < -5
    assert pair.improvement.estimate == 1


def test_the_last_step_that_all_have(tmp_path: Path):
    long, short = run(tmp_path / "long", steps=3), run(tmp_path / "short", 1.0, steps=1)
    assert metarl.compare([long, short]).field.step == 1
    assert metarl.compare([long], steps=3).field.step == 3
    with pytest.raises(UserError, match="short has steps 0 to 1"):
        metarl.compare([long, short], steps=2)


def test_a_named_evaluation(tmp_path: Path):
    folder = run(tmp_path / "x", name="windy")
    assert metarl.compare([folder], name="windy").standings
    with pytest.raises(UserError, match=r"no evaluation on held-out tasks\n`metarl evaluate .*/x`"):
        metarl.compare([folder])
    with pytest.raises(UserError, match="--name hot` makes it"):
        metarl.compare([folder], name="hot")
    with pytest.raises(UserError, match="give the name of an evaluation"):
        metarl.compare([folder], name="../x")


def test_other_tasks_are_not_paired(tmp_path: Path):
    other = [{"goal": [9.0, 9.0]}, *TASKS[1:]]
    found = metarl.compare([run(tmp_path / "a"), run(tmp_path / "b", 1.0, tasks=other)])
    assert not found.pairs
    assert "different tasks, so nothing is paired" in found.table()
    assert len(found.figure().axes) == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"split": "train"}, "split is 'test' and 'train'"),
        ({"horizon": 50}, "horizon is 100 and 50"),
        ({"measure": MEAN_SQUARED_ERROR, "level": 1.0}, "measure is 'return' and 'mean-squared"),
        ({"values": np.full((6, 3, 1), np.nan)}, "not finite in 6 of 6 tasks"),
    ],
)
def test_what_cannot_be_compared(tmp_path: Path, more, message: str):
    one, other = run(tmp_path / "a"), run(tmp_path / "b", **{"level": 0.5, **more})
    with pytest.raises(UserError, match=message) as caught:
        metarl.compare([one, other])
    assert str(caught.value).count("\n") == 1


def test_seeds_that_are_none(tmp_path: Path):
    """Of other settings, and on other tasks."""
    mixed = seeds(tmp_path / "mixed", 2)
    run(mixed / "seed3", seed=3, config=replace(preset("point-goal"), iterations=7))
    with pytest.raises(UserError, match=r"no seeds of one experiment: iterations"):
        metarl.compare([mixed])
    other = seeds(tmp_path / "other", 1)
    run(other / "seed2", seed=2, tasks=TASKS[:3])
    with pytest.raises(UserError, match=r"on different tasks\nevaluate .*--tasks 6"):
        metarl.compare([other])


def test_the_same_run_twice(tmp_path: Path):
    one = run(tmp_path / "a")
    with pytest.raises(UserError, match="same folder"):
        metarl.compare([one, tmp_path / "." / "a"])
    shutil.copytree(one, tmp_path / "copy")
    with pytest.raises(UserError, match="are the same run"):
        metarl.compare([one, tmp_path / "copy"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no runs are given"),
        (["{a}", "--success"], "has no success"),
        (["{a}", "--label", "x", "y"], "2 names for 1 runs"),
        (["{a}", "{b}", "--label", "x", "x"], "two runs have the name 'x'"),
        (["{a}", "--out", "{a}/here"], "into the folder of the run"),
        (["{a}", "--out", "{t}/taken"], "is there already and of no comparison"),
        (["{a}", "--step", "1"], "--step is no flag; did you mean --steps"),
        (["{t}/none"], "there is no such folder"),
    ],
)
def test_bad_command_lines(tmp_path: Path, flags: list[str], message: str):
    run(tmp_path / "a")
    run(tmp_path / "b", 1.0)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "compare.json").write_text("{}")
    names = {"a": tmp_path / "a", "b": tmp_path / "b", "t": tmp_path}
    out = [] if "--out" in flags else ["--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match=message):
        compare.main([flag.format(**names) for flag in flags] + out)
    assert (tmp_path / "taken" / "compare.json").read_text() == "{}"
    assert not (tmp_path / "out" / "compare.json").exists()
