"""Sweeps: what is varied, the study in the folder, whole sweeps that stop and go on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from whole_runs import door

from metarl.commands import sweep, train
from metarl.config.files import dump, keys
from metarl.errors import UserError
from metarl.experiments.presets import preset
from metarl.runs import directory
from metarl.runs.directory import RunDirectory
from metarl.runs.metrics import line
from metarl.sweep import running
from metarl.sweep.parameters import Parameter, changed, parameters, settings
from metarl.sweep.study import Study

CONFIG = preset("sinusoid-maml")
LR = "agent.inner.lr=log:0.001:1"


def test_parameters_and_their_values():
    texts = [
        LR, "agent.inner.steps=1:3", "sampling.tasks=log:4:64",
        "agent.network.hidden=choice:[8],[16,16]", "agent.network.activation=choice:relu,tanh",
    ]  # fmt: skip
    lr, steps, tasks, hidden, activation = parameters(texts, CONFIG)
    assert [x.kind for x in (lr, steps, tasks, hidden, activation)] == [
        "float", "int", "int", "choice", "choice",
    ]  # fmt: skip
    assert lr.grid() == pytest.approx([0.001, 0.001 * 10**0.75, 10**-1.5, 10**-0.75, 1])
    assert steps.grid() == [1, 2, 3]
    assert tasks.grid() == [4, 8, 16, 32, 64]
    assert hidden.value(hidden.labels[1]) == (16, 16)
    values = {"agent.inner.lr": 0.5, "agent.network.hidden": (16, 16), "agent.inner.steps": 3}
    found = keys(changed(CONFIG, values))
    assert {key: found[key] for key in values} == values
    assert [str(x) for x in parameters(list(map(str, (lr, hidden))), CONFIG)] == [
        str(lr), str(hidden),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("agent.inner.lrr=0.1:1", "no such setting\ndid you mean agent.inner.lr?"),
        ("agent.outer.max_kl=0.1:1", "maml on sinusoid has no such setting"),
        ("agent.inner.lr=1:0.1", "the lower one first"),
        ("agent.inner.lr=0.1:nan", "finite"),
        ("agent.inner.lr=log:0:1", "begins above 0"),
        ("agent.inner.lr=-1:1", "must be above 0"),
        ("agent.inner.lr=much", "give LOW:HIGH"),
        ("agent.inner.steps=0.5:2", "whole ends"),
        ("agent.network.hidden=1:2", "no number; give choice"),
        ("agent.network.hidden=choice:[8]", "two values or more"),
        ("agent.network.activation=choice:relu,elu", "'elu'; expected 'relu' or 'tanh'"),
        ("agent.network.activation=choice:relu,relu", "each value once"),
        ("iterations=1:9", "a sweep cannot vary it"),
        ("env.shots=1:9", "a sweep cannot vary it"),
        ("lr", "no KEY=RANGE"),
    ],
)
def test_bad_parameters(text: str, message: str):
    with pytest.raises(UserError) as caught:
        parameters([text], CONFIG)
    assert message in str(caught.value)
    assert str(caught.value).count("\n") <= 1


def test_command_lines(tmp_path: Path):
    argv = ["sinusoid-maml", "--param", LR, "--trials", "7", "--param=agent.inner.steps=1:3"]
    config, options, varied, _ = sweep.read([*argv, "--select-on", "train", "--iterations", "9"])
    assert config.run_dir == "runs/sinusoid-maml-sweep"
    assert (config.iterations, options.trials, options.select_on) == (9, 7, "train")
    assert [parameter.key for parameter in varied] == ["agent.inner.lr", "agent.inner.steps"]
    for more, message in (
        (["--trials", "0"], "at least 1"),
        (["--sampler", "cma"], "'tpe' or 'random' or 'grid'"),
        (["--trails", "3"], "no flag"),
        (["--param", LR], "given twice"),
        (["--stop-after", "3"], "leave them out"),
    ):
        flags = [flag for flag in argv if more[0] != "--trials" or flag not in ("--trials", "7")]
        with pytest.raises(UserError, match=message):
            sweep.read([*flags, *more])


def study(folder: Path, about: Any = "a", sampler: Any = "tpe", **more: Any) -> Study:
    varied = (Parameter("agent.inner.lr", "float", 0.001, 1.0, log=True),)
    return Study(folder, varied, {"of": about}, sampler, more.get("pruner", "none"), 1, True)


def test_what_makes_trials_comparable():
    """The machine does not; the evaluation that they are judged by does."""
    other = replace(CONFIG, evaluation=replace(CONFIG.evaluation, steps=7), threads=3)
    before, now = settings(CONFIG), settings(other)
    assert {key for key in now if now[key] != before[key]} == {"evaluation.steps"}


def test_a_folder_of_another_trial_is_not_continued(tmp_path: Path):
    """As where the study was removed and the runs were not."""
    found = study(tmp_path)
    plan = running.Plan(tmp_path, CONFIG, found.parameters, 9, 1, "validation")
    (tmp_path / "trial0").mkdir()
    (tmp_path / "trial0" / "config.yaml").write_text(dump(CONFIG))
    with pytest.raises(UserError, match=r"trial0 is there already, with other settings"):
        running._begun(plan, found, found.ask(1))


@pytest.mark.slow
def test_a_study_goes_on_where_it_stopped(tmp_path: Path):
    """Two halves in two processes propose what one whole does; what ran is run again."""
    (tmp_path / "whole").mkdir()
    whole, tried = study(tmp_path / "whole"), []
    for _ in range(12):  # TPE models what came before from the tenth on
        trial = whole.ask(1)
        tried.append(trial.params)
        whole.tell(trial, (trial.params["agent.inner.lr"] - 0.1) ** 2)
    for start, end in ((0, 11), (11, 12)):
        half = study(tmp_path)
        for number in range(start, end):
            trial = half.ask(1)
            assert trial.params == tried[number]
            half.tell(trial, (trial.params["agent.inner.lr"] - 0.1) ** 2)
    begun = study(tmp_path).ask(1)
    (left,) = study(tmp_path).interrupted()
    assert (left.number, left.params) == (12, begun.params)
    assert len(study(tmp_path).finished()) == 12
    assert [trial.value for trial in half.complete()] == sorted(x.value for x in half.complete())


def test_a_grid_is_tried_once(tmp_path: Path):
    found = study(tmp_path, sampler="grid")
    for _ in range(5):
        found.tell(found.ask(1), 0.0)
    tried = sorted(trial.params["agent.inner.lr"] for trial in found.trials)
    assert tried == pytest.approx(found.parameters[0].grid())


def test_studies_that_are_refused(tmp_path: Path):
    study(tmp_path, {"x": 1})
    with pytest.raises(UserError, match=r"another sweep: 'of.x' is 1 \(asked for: 2\)\n"):
        study(tmp_path, {"x": 2})
    (tmp_path / "study.db").write_bytes(b"no database, but long enough to be one" * 9)
    with pytest.raises(UserError, match=r"is no study of Optuna: .*\nmove it away"):
        study(tmp_path)
    (tmp_path / "study.db").unlink()
    (tmp_path / "study.db").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="is a link to"):
        study(tmp_path)


def test_values_in_a_study_are_checked(tmp_path: Path):
    """A file of a stranger's may hold any."""
    found = study(tmp_path)
    for value in (7.0, -1.0, "0.5", None, float("nan")):
        with pytest.raises(UserError, match=r"agent\.inner\.lr"):
            found.values(SimpleNamespace(params={"agent.inner.lr": value}))


def test_without_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("metarl.sweep.study.optuna", None)
    with pytest.raises(UserError, match=r'not installed\npip install "metarl\[sweep\]"'):
        study(tmp_path)


def test_a_bad_training_is_pruned(tmp_path: Path):
    """Five trials with small losses are complete; the loss of the sixth is large."""
    found = study(tmp_path, pruner="median")
    plan = running.Plan(tmp_path, changed(CONFIG, {}), found.parameters, 9, 1, "validation")
    every = CONFIG.iterations // running.PARTS
    for loss in (1.0, 1.1, 0.9, 1.0, 1.2, 0.5, 9.0):
        trial = found.ask(1)
        folder = plan.folder(trial.number)
        folder.mkdir()
        rows = (
            {"iteration": n, "loss/step0": 4.0, "loss/step1": loss} for n in range(1, every + 1)
        )
        (folder / "metrics.jsonl").write_bytes(b"".join(map(line, rows)))
        one = running.Running(trial, None, folder, set())  # pyright: ignore
        assert running._is_hopeless(plan, one) == (loss == 9.0)
        assert one.reported == {1}
        assert study(tmp_path, pruner="median").reported(trial) == [every]
        found.tell(trial, loss)


@pytest.fixture
def begin() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a sweep, which the end of the test ends; its trials end with it."""
    begun = []

    def start(root: Path) -> subprocess.Popen[str]:
        argv = ["sweep", "sinusoid-maml", *FLAGS, "--run-dir", str(root)]
        begun.append(door("metarl", *argv))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.wait()


def wait_for(run_dir: Path, iterations: int) -> None:
    """Waits for so many lines of metrics.jsonl, also on a machine with much to do."""
    deadline = time.monotonic() + 200
    while not (path := run_dir / "metrics.jsonl").exists() or (
        len(path.read_text().splitlines()) < iterations
    ):
        assert time.monotonic() < deadline
        time.sleep(0.005)


FLAGS = [
    "--param", LR, "--sampling.updates", "1", "--sampling.tasks", "2", "--evaluation.tasks", "4",
    "--evaluation.steps", "1", "--checkpoint-every", "9", "--device", "cpu", "--threads", "1",
    "--iterations", "15", "--trials", "2", "--jobs", "2",
]  # fmt: skip


@pytest.mark.slow
def test_a_whole_sweep_that_is_stopped(tmp_path: Path, begin, capsys):
    """Ctrl-C ends both trials, which save their last iteration and go on from it; the best settings
    train by --config."""
    root = tmp_path / "sweep"
    process = begin(root)
    for number in range(2):
        wait_for(root / f"trial{number}", 2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 130, said
    assert "the same command again continues the sweep" in said
    for number in range(2):
        run = root / f"trial{number}"
        last = len((run / "metrics.jsonl").read_text().splitlines())
        assert last >= 2
        assert (run / "checkpoints" / f"{last:06d}").is_dir()
    sweep.main(["sinusoid-maml", *FLAGS, "--run-dir", str(root)])
    said = capsys.readouterr().out
    assert "trial 0 is continued" in said
    assert "2 trials: 2 complete" in said
    document = json.loads((root / "sweep.json").read_text())
    assert [trial["state"] for trial in document["trials"]] == ["complete", "complete"]
    best = document["trials"][document["best"]]
    assert best["value"] == min(trial["value"] for trial in document["trials"])  # it is a loss
    evaluation = json.loads((root / "trial1/evaluation/validation/adaptation.json").read_text())
    assert evaluation["split"] == "validation"
    config, _ = train.read(["--config", str(root / "best.yaml"), "--run-dir", str(tmp_path / "x")])
    assert keys(config)["agent.inner.lr"] == best["settings"]["agent.inner.lr"]
    assert (root / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_a_trial_ends_with_the_sweep():
    """Also where the sweep is killed and can end nothing."""
    child = (
        "import os; from metarl.sweep.trial import _end_with_parent as end; parent = os.getppid()"
    )
    child += "; print(flush=True); end(parent)"
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    command = [sys.executable, "-c", parent, child]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.communicate(timeout=60)  # the child has this end of the pipe until it ends


def test_a_trial_waits_for_its_killed_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """That holds the run's lock while it saves; the trial must not fail by it."""
    run = RunDirectory(tmp_path)
    monkeypatch.setattr(running, "PATIENCE", 0.3)
    with directory.locked(run), pytest.raises(UserError, match="in use"):
        running._wait_for(run)
    monkeypatch.setattr(running, "PATIENCE", 60.0)
    with ExitStack() as stack:
        stack.enter_context(directory.locked(run))
        threading.Timer(0.3, stack.pop_all().close).start()
        running._wait_for(run)
