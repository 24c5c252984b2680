"""Evaluations on tasks of the user's own, on other distributions, by names, from end to end."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from whole_runs import tree

from metarl.commands import doctor, evaluate, train
from metarl.config.options import EvaluateFewShotOptions, EvaluateOptions
from metarl.errors import UserError
from metarl.loop import evaluation
from metarl.runs import evaluations
from metarl.runs.adaptation import Adaptation, read_json
from metarl.runs.adaptation_plot import adaptation_figure
from metarl.runs.directory import RunDirectory

LINES = {
    "point": "point-goal --env.horizon 5 --sampling.tasks 2 --sampling.episodes 2 --workers 0 "
    "--evaluation.steps 1 --evaluation.episodes 2 --evaluation.tasks 3 --agent.policy.hidden 4",
    "cheetah": "halfcheetah-vel-quick --env.horizon 5 --sampling.tasks 2 --sampling.episodes 2 "
    "--workers 0 --evaluation.steps 1 --evaluation.episodes 2 --evaluation.tasks 2 "
    "--agent.policy.hidden 4",
    "sinusoid": "sinusoid-maml --sampling.tasks 2 --sampling.updates 2 --agent.network.hidden 4 "
    "--evaluation.steps 1 --evaluation.tasks 3",
}  # fmt: skip
OWN_CODE = """
import metarl

tasks = metarl.gym_tasks("CartPole-v1", {"gravity": metarl.Uniform(5, 15)}, horizon=5)
heavy = metarl.gym_tasks("CartPole-v1", {"masspole": metarl.Uniform(1, 2)}, horizon=5)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    for name, line in LINES.items():
        train.main(
            [*line.split(), "--iterations", "1", "--device", "cpu", "--run-dir", str(root / name)]
        )
    return root


@pytest.fixture
def runs(trained, tmp_path, monkeypatch) -> Path:
    here = Path(shutil.copytree(trained, tmp_path / "here"))
    monkeypatch.chdir(here)
    return here


def found(run: str, name: str) -> Adaptation:
    return read_json(RunDirectory(run).evaluation_of(name).adaptation_json)


def names(run: str) -> list[str]:
    return [name for name, _ in evaluations.evaluations_of(RunDirectory(run))]


def files(folder: Path) -> dict[str, bytes]:
    return {path: content for path, (_, content) in tree(folder).items()}


def title(adaptation: Adaptation) -> str:
    return adaptation_figure(adaptation).get_suptitle()


def test_tasks_of_ones_own(runs, capsys):
    """They go beside the held-out ones; the one that training never draws is named everywhere."""
    evaluate.main(["point"])
    held_out = tree(runs / "point" / "evaluation")
    evaluate.main(["point", "--task", "goal=0.1,0.2", "--task", "goal=3,1"])
    said, own = capsys.readouterr().out, found("point", "own")
    assert own.split == "own"
    assert own.tasks == ({"goal": [0.1, 0.2]}, {"goal": [3.0, 1.0]})
    assert "own tasks, not held-out ones" in said
    remark = "goal [3.0, 1.0] is out of distribution: training has from -0.5 to 0.5"
    assert remark in said
    assert own.remarks == (remark,)
    near, far = own.outcome.values
    assert (far < near).all()
    assert "2 own tasks" in title(own)
    assert "not held-out ones" in title(own)
    assert {x: y for x, y in tree(runs / "point" / "evaluation").items() if x in held_out
            and y[1]} == {x: y for x, y in held_out.items() if y[1]}  # fmt: skip
    assert names("point") == ["test", "own"]
    doctor.main(["point"])
    assert "ok     evaluation own: whole, 2 tasks, iteration 1" in capsys.readouterr().out


def test_a_seed_that_fails_ends_no_other(runs, capsys):
    """All seeds have the same tasks; one that is damaged is named, and the others are evaluated."""
    for seed in (1, 2, 3):
        shutil.copytree("point", f"seeds/seed{seed}")
    shutil.rmtree("seeds/seed2/checkpoints")
    words = ["seeds", "--task", "goal=0.1,0.2", "--task", "goal=0,0"]
    with pytest.raises(UserError, match=r"1 of 3 seeds failed \(seed2\): seeds/seed2 has no check"):
        evaluate.main(words)
    assert [found(f"seeds/seed{seed}", "own").tasks for seed in (1, 3)] == [
        ({"goal": [0.1, 0.2]}, {"goal": [0.0, 0.0]})
    ] * 2
    with pytest.raises(UserError, match="--taks is no flag"):
        evaluate.main(["seeds", "--taks", "2"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        doctor.main(["seeds"])
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if line.endswith(":")] == [
        f"seeds/seed{seed}:" for seed in (1, 2, 3)
    ]
    assert said.count("ok     evaluation own: whole, 2 tasks") == 2


def test_one_task_has_no_interval_and_says_why(runs, capsys):
    evaluate.main(["point", "--task", "goal=0,0", "--name", "one", "--controls", "random"])
    said = capsys.readouterr().out
    assert "no stderr and no 95% interval: they need more than one task" in said
    stored = json.loads(Path("point/evaluation/one/adaptation.json").read_text())
    for summary in (stored["summary"], stored["controls"]["random initialisation"]["summary"]):
        assert summary["ci95"] == [[None, None]] * 2
        assert summary["stderr"] == [None, None]
    labels = {x.get_text() for x in adaptation_figure(found("point", "one")).legends[0].texts}
    assert "no interval: a single task" in labels
    assert "95% interval over tasks" not in labels


def test_another_distribution_is_marked(runs, capsys):
    evaluate.main(["cheetah", "--env", "half-cheetah-dir:maml2017", "--tasks", "2"])
    said, other = capsys.readouterr().out, found("cheetah", "other")
    assert other.env == "half-cheetah-dir:maml2017"
    assert other.learned == "half-cheetah-vel:maml2017"
    assert set(other.tasks[0]) == {"direction"}
    assert "out of distribution: learned on half-cheetah-vel:maml2017" in said
    assert "out of distribution: learned on half-cheetah-vel" in title(other)
    evaluate.main(["cheetah", "--env", "half-cheetah-vel:maml2017", "--task", "velocity=1"])
    assert found("cheetah", "own").learned == ""


def test_another_distribution_of_examples(runs):
    evaluate.main(["sinusoid", "--env", "polynomial:2"])
    assert found("sinusoid", "other").env == "polynomial:2"
    evaluate.main(["sinusoid", "--task", "amplitude=1,phase=0", "--task-file", "tasks.csv"]
                  if Path("tasks.csv").write_text("amplitude,phase\n9,1\n") else [])  # fmt: skip
    own = found("sinusoid", "own")
    assert [task["amplitude"] for task in own.tasks] == [1.0, 9.0]
    assert own.remarks
    assert Path("sinusoid/evaluation/own/predictions.png").exists()


@pytest.mark.slow
def test_own_code_on_other_own_code(runs, monkeypatch):
    Path("my_tasks_of_names.py").write_text(OWN_CODE)
    monkeypatch.syspath_prepend(str(runs))
    line = LINES["point"].split()[3:]
    name = "my_tasks_of_names"
    train.main(
        ["point-goal", "--env", f"{name}:tasks", *line, "--iterations", "1", "--device", "cpu",
         "--run-dir", "own"]
    )  # fmt: skip
    evaluate.main(["own", "--env", f"{name}:tasks", "--task", "gravity=9"])
    assert found("own", "own").tasks == ({"gravity": 9.0},)
    evaluate.main(["own", "--env", f"{name}:heavy", "--task", "masspole=1.5", "--name", "heavy"])
    assert found("own", "heavy").learned == f"{name}:tasks"
    with pytest.raises(UserError):  # a policy of other spaces
        evaluate.main(["own", "--env", "point-goal"])
    sys.modules.pop(name, None)


def test_names_and_what_is_kept(runs, capsys):
    evaluate.main(["point", "--name", "mine"])
    before = files(runs / "point" / "evaluation")
    for other in (["--steps", "2"], ["--seed", "2"], ["--split", "train"], ["--task", "goal=0,0"]):
        with pytest.raises(UserError, match=r"mine holds another evaluation: .*\n.*--name"):
            evaluate.main(["point", "--name", "mine", *other])
    assert files(runs / "point" / "evaluation") == before
    evaluate.main(["point"])
    evaluate.main(["point", "--steps", "0"])
    assert "earlier-1 keeps the evaluation that was here" in capsys.readouterr().out
    assert names("point") == ["test", "mine", "earlier-1"]
    assert len(found("point", "earlier-1").steps) == 2


@pytest.mark.slow
def test_newer_weights_are_another_evaluation(runs):
    line = ["sinusoid", "--name", "mine"]
    evaluate.main(line)
    evaluate.main(line)
    train.main(["--config", "sinusoid/config.yaml", "--iterations", "2"])
    with pytest.raises(UserError, match="weights"):
        evaluate.main(line)


@pytest.mark.slow
def test_elsewhere(runs):
    """Evaluations in a folder of --out have names, too; the run's folder is only read."""
    before = tree(runs / "point")
    evaluate.main(["point", "--out", "results", "--name", "mine", "--task", "goal=0,0"])
    evaluate.main(["point", "--out", "results"])
    evaluate.main(["point", "--out", "results", "--seed", "3"])
    assert tree(runs / "point") == before
    there = {str(x.relative_to("results")) for x in Path("results").rglob("adaptation.json")}
    assert there == {f"{folder}adaptation.json" for folder in ("mine/", "", "earlier-1/")}
    assert not (Path("results") / "report.html").samefile("point/config.yaml")


@pytest.mark.parametrize(
    ("run", "words", "said"),
    [
        ("point", "--task goal=1", "expected a list of 2 values"),
        ("point", "--task speed=1", "'speed' is no key"),
        ("point", "--task", "--task has no value"),
        ("point", "--task goal=0,0 --tasks 3", "leave out --tasks"),
        ("point", "--task goal=0,0 --split train", "leave out --split"),
        ("point", "--task-file nothing.json", "cannot be read"),
        ("point", "--task-file point/config.yaml", "'iterations' is no key"),
        ("point", "--env bandit:5", "actions Discrete(5)"),
        ("point", "--env half-cheetah-vel", "observations Box"),
        ("point", "--env point-gaol", "did you mean 'point-goal'?"),
        ("point", "--env sinusoid", "supervised tasks"),
        pytest.param(
            *("sinusoid", "--env digits", "inputs of shape (1, 8, 8)"), marks=pytest.mark.slow
        ),
        ("sinusoid", "--env point-goal", "is for reinforcement learning"),
        ("point", "--env nothing_there_at_all:x", "nothing_there_at_all"),
        ("point", "--name train", "metarl itself gives"),
        ("point", "--name a/b", "no name of an evaluation"),
        ("point", "--name", "--name"),
    ],
)
def test_what_does_not_fit_is_refused(runs, run, words, said):
    before = tree(runs)
    with pytest.raises(UserError) as refused:
        evaluate.main([run, *words.split()])
    message = str(refused.value)
    assert said in message
    assert message.count("\n") <= 2
    assert tree(runs) == before


def test_from_python(runs):
    asked = EvaluateOptions(
        run_dir=Path("point"), own_tasks=({"goal": (0.1, 0.2)},) * 2, name="python", steps=1,
        episodes=2, workers=0, device="cpu",
    )  # fmt: skip
    picture = evaluation.evaluate(asked)
    assert picture == Path("point/evaluation/python/adaptation.png")
    assert found("point", "python").tasks == ({"goal": [0.1, 0.2]},) * 2
    asked = EvaluateFewShotOptions(
        run_dir=Path("sinusoid"), own_tasks=({"amplitude": 2, "phase": 1},), steps=1, device="cpu"
    )
    evaluation.evaluate(asked)
    assert found("sinusoid", "own").tasks == ({"amplitude": 2.0, "phase": 1.0},)


@pytest.mark.slow  # metaworld's goals are drawn first
def test_tasks_of_meta_world(runs):
    line = LINES["point"].split()[1:]
    train.main(
        ["point-goal", "--env", "ml1:push-v3", *line, "--iterations", "1", "--device", "cpu",
         "--run-dir", "ml1"]
    )  # fmt: skip
    evaluate.main(["ml1", "--task", "class=push-v3,goal=3", "--steps", "1", "--episodes", "1"])
    own = found("ml1", "own")
    assert own.tasks == ({"class": "push-v3", "goal": 3, "split": "test"},)
    stored = json.loads(Path("ml1/evaluation/own/success.json").read_text())
    assert stored["overall"]["ci95"] == [[None, None]] * 2
    evaluate.main(
        ["ml1", "--env", "ml1:reach-v3", "--tasks", "1", "--steps", "0", "--episodes", "1"]
    )
    assert found("ml1", "other").learned == "ml1:push-v3"
