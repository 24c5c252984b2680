"""Sweeps: what is varied, the study in the folder, whole sweeps that stop and go on."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
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

    def start(root: Path, *flags: str) -> subprocess.Popen[str]:
        argv = ["sweep", "sinusoid-maml", *FLAGS, "--run-dir", str(root), *flags]
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
    "--param", LR, "--sampling.updates", "2", "--sampling.tasks", "4", "--evaluation.tasks", "5",
    "--evaluation.steps", "1", "--checkpoint-every", "1", "--device", "cpu",
]  # fmt: skip


@pytest.mark.slow
def test_a_whole_sweep_that_is_killed(tmp_path: Path, begin):
    """The killed trial goes on from its checkpoint; the best settings train by --config."""
    root = tmp_path / "sweep"
    flags = ("--iterations", "60", "--trials", "2")
    process = begin(root, *flags)
    wait_for(root / "trial0", 5)
    process.kill()
    process.communicate()
    lock, deadline = root / "trial0" / ".lock", time.monotonic() + 30
    child = int(lock.read_text().split()[1])
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    before = len((root / "trial0" / "metrics.jsonl").read_text().splitlines())
    assert 5 <= before < 60
    process = begin(root, *flags)
    said, _ = process.communicate(timeout=250)
    assert process.returncode == 0, said
    assert "trial 0 is continued" in said
    assert "2 trials: 2 complete" in said
    document = json.loads((root / "sweep.json").read_text())
    assert [trial["state"] for trial in document["trials"]] == ["complete", "complete"]
    evaluation = json.loads((root / "trial1/evaluation/validation/adaptation.json").read_text())
    assert evaluation["split"] == "validation"
    config, _ = train.read(["--config", str(root / "best.yaml"), "--run-dir", str(tmp_path / "x")])
    best = document["trials"][document["best"]]
    assert keys(config)["agent.inner.lr"] == best["settings"]["agent.inner.lr"]
    assert (root / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_ctrl_c_ends_the_trials(tmp_path: Path, begin):
    """Two at a time; each saves its last iteration."""
    root = tmp_path / "sweep"
    process = begin(root, "--iterations", "9999", "--jobs", "2")
    for number in range(2):
        wait_for(root / f"trial{number}", 2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=100)
    assert process.returncode == 130, said
    assert "the same command again continues the sweep" in said
    for number in range(2):
        run = root / f"trial{number}"
        last = len((run / "metrics.jsonl").read_text().splitlines())
        assert (run / "checkpoints" / f"{last:06d}").is_dir()
