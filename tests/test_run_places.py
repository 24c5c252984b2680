"""Folders of runs: moved, copied, read-only; and what is written outside of them."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from whole_runs import instead, rows, tree, weights

import metarl
from metarl.commands import evaluate, report, train
from metarl.errors import EnvFaultError, UserError
from metarl.experiments.assembly import run_config
from metarl.runs.adaptation import read_json
from metarl.runs.directory import RunDirectory
from metarl.runs.errors_log import faults_logged

EXAMPLES = (
    "sinusoid-maml --sampling.tasks 2 --sampling.updates 2 --env.shots 2 --env.queries 2 "
    "--agent.network.hidden 4 --checkpoint-every 1 --iterations 2 --device cpu"
).split()
EPISODES = (
    "point-goal --sampling.tasks 2 --sampling.episodes 2 --env.horizon 5 --agent.policy.hidden 4 "
    "--checkpoint-every 1 --iterations 2 --workers 0 --device cpu"
).split()
ASKED = {"examples": ["--tasks", "3", "--steps", "1"], "episodes": ["--tasks", "3", "--steps", "1"]}
LINES = {"examples": EXAMPLES, "episodes": EPISODES}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Two runs of each source."""
    root = tmp_path_factory.mktemp("trained")
    for source, line in LINES.items():
        for name, seed in (("a", "1"), ("b", "2")):
            train.main([*line, "--seed", seed, "--run-dir", str(root / source / "runs" / name)])
    return root


@pytest.fixture(params=LINES)
def source(request) -> str:
    return request.param


@pytest.fixture
def here(trained, source, tmp_path, monkeypatch) -> Path:
    """A copy of a source's runs in runs/, in the working directory."""
    folder = Path(shutil.copytree(trained / source, tmp_path / "here"))
    monkeypatch.chdir(folder)
    return folder


def config_path(run: str) -> list[str]:
    return ["--config", f"{run}/config.yaml"]


@pytest.mark.parametrize("how", ["renamed", "copied", "elsewhere"])
def test_a_run_continues_in_the_folder_where_it_is(here, source, how, tmp_path):
    """With the bytes of the run that stayed; the old place is not made again."""
    train.main([*instead(LINES[source], "--iterations", "3"), "--run-dir", "whole"])
    run = tmp_path / "other" / "x" if how == "elsewhere" else here / "runs" / "x"
    run.parent.mkdir(exist_ok=True)
    if how == "copied":
        shutil.copytree("runs/a", run)
        kept = tree(here / "runs" / "a")
    else:
        shutil.move("runs/a", run)
    train.main([*config_path(str(run)), "--iterations", "3"])
    assert weights(run, 3) == weights(Path("whole"), 3)
    assert rows(run) == rows(Path("whole"))
    assert f"run_dir: {run}" in (run / "config.yaml").read_text()
    if how == "copied":
        assert tree(here / "runs" / "a") == kept
    else:
        assert not (here / "runs" / "a").exists()
    assert run_config(run).run_dir == metarl.load_config(run / "config.yaml").run_dir == str(run)


def test_from_within_a_runs_folder(here, source, monkeypatch, capsys):
    monkeypatch.chdir("runs/a")
    train.main(["--config", "config.yaml", "--iterations", "3"])
    assert len(rows(Path())) == 3
    assert "a: " in capsys.readouterr().out  # the folder's name heads the progress
    assert sorted(os.listdir()) == sorted(os.listdir("../b"))


def test_a_moved_run_may_change_what_any_run_may(here, source):
    Path("runs/a").rename("runs/x")
    with pytest.raises(UserError, match=r"runs/x holds a run with other settings: seed 1 \(asked"):
        train.main([*config_path("runs/x"), "--seed", "9"])
    train.main([*config_path("runs/x"), "--iterations", "3", "--checkpoint-every", "2"])
    assert len(rows(Path("runs/x"))) == 3


def test_another_runs_config_is_the_base_of_a_new_run(here, source):
    before = tree(Path("runs/a"))
    train.main([*config_path("runs/a"), "--run-dir", "runs/new", "--seed", "9"])
    assert tree(Path("runs/a")) == before
    assert run_config(Path("runs/new")).seed == 9
    assert len(rows(Path("runs/new"))) == 2


def test_a_config_outside_of_a_run_keeps_its_own_folder(here, source):
    """It is a file of settings, also by the same name."""
    Path("mine").mkdir()
    text = Path("runs/a/config.yaml").read_text()
    for file in ("mine/config.yaml", "runs/a/other.yaml"):
        Path(file).write_text(text)
        assert f"run_dir: {train.read(['--config', file])[0].run_dir}\n" in text


def test_metrics_of_a_run_that_lost_its_weights_are_kept(here, source):
    shutil.rmtree("runs/a/checkpoints")
    before = (Path("runs/a/metrics.jsonl")).read_bytes()
    with pytest.raises(UserError, match=r"runs/a has metrics of 2 iterations and no checkpoint"):
        train.main(config_path("runs/a"))
    assert Path("runs/a/metrics.jsonl").read_bytes() == before
    Path("runs/a/metrics.jsonl").write_bytes(before.splitlines(keepends=True)[0])
    train.main(config_path("runs/a"))  # as after a kill before the first checkpoint
    assert len(rows(Path("runs/a"))) == 2


@pytest.mark.parametrize("split", ["test", "train"])
def test_an_evaluation_elsewhere_leaves_the_run_as_it_was(here, source, split):
    """Every file, with the numbers of an evaluation in the run's own folder."""
    runs = [Path("runs/a"), Path("runs/b")]
    argv = ["runs/a", *ASKED[source], "--split", split]
    flags = [*argv, "--controls", "random", "--against", "runs/b", "--out", "far/results"]
    before = [tree(run) for run in runs]
    modes = {path: path.stat().st_mode for run in runs for path in (run, *run.rglob("*"))}
    for path in modes:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        evaluate.main(flags)
        assert [tree(run) for run in runs] == before
        report.main(["runs/a", "--out", "far/page.html"])
        assert [tree(run) for run in runs] == before
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    out = Path("far/results")
    inner = out if split == "test" else out / "train"
    pictures = ["predictions.png"] if source == "examples" else []
    made = {f"adaptation.{kind}" for kind in ("json", "csv", "png")} | {*pictures}
    outer = {"run.json", "report.html"}
    assert {path.name for path in inner.iterdir()} == made | (outer if split == "test" else set())
    assert outer <= {path.name for path in out.iterdir()}
    assert f"Adaptation, {split} tasks" in (out / "report.html").read_text()
    assert "Not evaluated yet" in Path("far/page.html").read_text()
    evaluate.main(argv)
    own = Path("runs/a/evaluation") / ("train" if split == "train" else "")
    one, other = (read_json(place / "adaptation.json").outcome for place in (own, inner))
    assert np.array_equal(one.values, other.values)


@pytest.fixture
def read_only(monkeypatch):
    """Nothing below runs/ can be written, not even by root."""
    touch = Path.touch

    def refuses(path, *arguments, **options):
        if "runs" in path.parts:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return touch(path, *arguments, **options)

    monkeypatch.setattr(Path, "touch", refuses)


def test_a_read_only_run_says_where_else(here, source, read_only):
    before = tree(here)
    with pytest.raises(
        UserError, match=r"^runs/a cannot be written: Read-only file system\n.* --out"
    ):
        evaluate.main(["runs/a", *ASKED[source]])
    with pytest.raises(UserError, match=r"cannot be written: Read-only file system\n.* --out FILE"):
        report.main(["runs/a"])
    assert tree(here) == before
    evaluate.main(["runs/a", *ASKED[source], "--out", "results"])
    report.main(["runs/a", "--out", "page.html"])


@pytest.mark.parametrize("source", ["examples"], indirect=True)
def test_only_an_evaluation_of_the_same_run_is_replaced(here, source):
    """Wherever that run lies now."""
    asked = ASKED[source]
    evaluate.main(["runs/a", *asked, "--out", "results"])
    evaluate.main(["runs/a", *asked, "--out", "results", "--seed", "2"])
    assert read_json(Path("results/adaptation.json")).made_from["seed"] == 2
    Path("runs/a").rename("runs/x")
    evaluate.main(["runs/x", *asked, "--out", "results"])
    assert json.loads(Path("results/run.json").read_text())["run"] == str(here / "runs" / "x")
    before = tree(Path("results"))
    for split in ("test", "train"):
        with pytest.raises(UserError, match=rf"json is there already, of the run {here}"):
            evaluate.main(["runs/b", *asked, "--out", "results", "--split", split])
    with pytest.raises(UserError, match=r"page\.txt'; give an \.html file"):
        report.main(["runs/b", "--out", "page.txt"])
    with pytest.raises(UserError, match=r"results/report.html is there already and no report of"):
        report.main(["runs/b", "--out", "results/report.html"])
    report.main(["runs/x", "--out", "results/report.html"])
    assert {path.name for path in Path("results").iterdir()} == {
        Path(path).name for path in before if path != "results"
    }
    Path("results/run.json").unlink()
    with pytest.raises(UserError, match=r"is there already, of a run that no run\.json names"):
        evaluate.main(["runs/x", *asked, "--out", "results"])


@pytest.mark.parametrize("source", ["episodes"], indirect=True)
def test_places_in_runs_are_refused(here, source):
    before = tree(here)
    for out in ("runs/a", "runs/b", "runs/b/evaluation", "runs/a/checkpoints/000002", "runs/a/new"):
        with pytest.raises(UserError, match="which puts files into the folder of the run"):
            evaluate.main(["runs/a", *ASKED[source], "--out", out])
        with pytest.raises(UserError, match="which puts files into the folder of the run"):
            report.main(["runs/a", "--out", f"{out}/page.html"])
    Path("runs/b").rename("runs/train")  # where results of training tasks would go
    with pytest.raises(UserError, match=r"the folder of the run .*/runs/train"):
        evaluate.main(["runs/a", *ASKED[source], "--out", "runs", "--split", "train"])
    Path("runs/train").rename("runs/b")
    Path("file").touch()
    with pytest.raises(UserError, match=r"file.* cannot be written: .*\ngive another folder"):
        evaluate.main(["runs/a", *ASKED[source], "--out", "file"])
    Path("file").unlink()
    assert {k: v for k, v in tree(here).items() if os.path.isfile(k)} == {
        k: v for k, v in before.items() if os.path.isfile(k)
    }


@pytest.mark.parametrize("source", ["episodes"], indirect=True)
def test_a_fault_is_logged_beside_the_results(here, source, strange_envs):
    """The run's own folder has no errors.log of it."""
    config = Path("runs/a/config.yaml")
    config.write_text(config.read_text().replace("name: point-goal", "name: strange_envs:fault"))
    config.write_text(config.read_text().replace(":fault", ":fault_constructor"))
    before = tree(Path("runs/a"))
    argv = ["runs/a", "--env", "strange_envs:fault_constructor", "--out", "results"]
    with pytest.raises(UserError, match=r"its traceback is in results/errors\.log"):
        evaluate.main([*argv, *ASKED[source]])
    assert tree(Path("runs/a")) == before
    assert "strange_envs.py" in Path("results/errors.log").read_text()


def test_a_printed_check_can_be_copied_into_a_shell():
    fault = EnvFaultError("x", {}, 0, 0, "reset", "wrong")
    with pytest.raises(EnvFaultError) as told, faults_logged(RunDirectory("x"), "metaworld:a|b"):
        raise fault
    assert "`metarl check-env 'metaworld:a|b'`" in str(told.value)


@pytest.mark.parametrize("source", ["examples"], indirect=True)
def test_two_folders_are_refused_and_one_may_be_given_by_its_flag(here, source):
    said = "two run folders are given, 'runs/a' and 'runs/b'; give one"
    for argv in (["runs/a", "runs/b"], ["runs/a", "--run-dir", "runs/b"]):
        with pytest.raises(UserError, match=said):
            evaluate.read(argv)
        with pytest.raises(UserError, match="2 folders are given; name their page with --out"):
            report.read(argv)
    for door in (evaluate.read, report.read):
        with pytest.raises(UserError, match="--run-dir is given twice"):
            door(["--run-dir", "runs/a", "--run-dir=runs/b"])
    assert evaluate.read(["--run-dir", "runs/a"])[0].run_dir == Path("runs/a")
    assert report.read(["--run-dir=runs/a"]) == ([Path("runs/a")], "")
