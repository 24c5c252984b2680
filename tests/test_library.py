"""metarl.meta_train, evaluate and results: what they take, what they return, what they refuse."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from whole_runs import rows, weights

import metarl
from metarl.agents import catalogue as agents
from metarl.commands import evaluate as evaluate_door
from metarl.commands import train as train_door
from metarl.config import own_code
from metarl.envs import catalogue
from metarl.envs.gym.tasks import gym_tasks
from metarl.errors import UserError
from metarl.experiments.from_python import nested
from metarl.loop import evaluation
from metarl.runs.results import Table

SMALL: dict[str, Any] = {
    "settings": {"agent.policy.hidden": [8], "sampling.tasks": 3, "sampling.episodes": 3},
    "evaluation": {"tasks": 2, "steps": 1, "episodes": 2},
    "device": "cpu",
    "threads": 1,
    "workers": 0,
    "iterations": 2,
}
FLAGS = [
    "--agent.policy.hidden", "8", "--sampling.tasks", "3", "--sampling.episodes", "3",
    "--evaluation.tasks", "2", "--evaluation.steps", "1", "--evaluation.episodes", "2",
    "--device", "cpu", "--threads", "1", "--workers", "0", "--iterations", "2",
]  # fmt: skip


class Lakes:
    """Frozen lakes without holes; tasks differ in the goal's position."""

    horizon = 10

    def sample(self, num_tasks, rng, split):
        goals = [3, 9, 14] if split == "test" else [1, 2, 4, 5, 6, 8, 12]
        return [{"goal": int(goal)} for goal in rng.choice(goals, num_tasks)]

    def make(self, task):
        tiles = list("SFFFFFFFFFFFFFFF")
        tiles[task["goal"]] = "G"
        rows = ["".join(tiles[start : start + 4]) for start in range(0, 16, 4)]
        return gymnasium.make("FrozenLake-v1", desc=rows, is_slippery=False, max_episode_steps=-1)


def without_pictures(patch: pytest.MonkeyPatch) -> None:
    """Pictures and the report take most of a small evaluation's time; other tests look at them."""
    patch.setattr(evaluation, "png", lambda figure: b"")
    patch.setattr(evaluation, "adaptation_figure", lambda *_: None)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    without_pictures(monkeypatch)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("library") / "run"
    made = metarl.meta_train("point-goal", run_dir=folder, **{**SMALL, "env": {"horizon": 12}})
    with pytest.MonkeyPatch.context() as patch:
        without_pictures(patch)
        metarl.evaluate(made, tasks=3, steps=2, controls=["random"])
    return made


def test_a_function_trains_what_the_command_trains(run, tmp_path):
    train_door.main(["point-goal", *FLAGS, "--env.horizon", "12", "--run-dir", str(tmp_path)])
    assert weights(run, 2) == weights(tmp_path, 2)
    assert rows(run) == rows(tmp_path)
    kept = [(folder / "config.yaml").read_text().splitlines() for folder in (run, tmp_path)]
    assert [x for x in kept[0] if "run_dir" not in x] == [x for x in kept[1] if "run_dir" not in x]


def test_a_function_evaluates_what_the_command_evaluates(run, tmp_path):
    evaluate_door.main([str(run), "--tasks", "3", "--out", str(tmp_path / "a"), "--seed", "4"])
    found = metarl.evaluate(run, tasks=3, out=str(tmp_path / "b"), seed=4)
    one, other = ((tmp_path / name / "adaptation.json").read_bytes() for name in "ab")
    assert one == other
    assert found.evaluation is not None
    assert found.evaluation.made_from["seed"] == 4


def test_a_run_is_quiet_unless_it_is_to_be_seen(run, tmp_path, capfd):
    metarl.meta_train(run / "config.yaml", run_dir=tmp_path, iterations=1)
    metarl.evaluate(tmp_path, tasks=2)
    assert capfd.readouterr() == ("", "")
    metarl.meta_train(run / "config.yaml", run_dir=tmp_path, progress=True)
    metarl.evaluate(tmp_path, tasks=2, progress=True)
    said = capfd.readouterr().out
    assert "iteration 2/2" in said
    assert "continuing after iteration 1" in said
    assert "numbers" in said


def test_results_are_rows_of_plain_values(run):
    found = metarl.results(run)
    assert found.training.column("iteration") == [1, 2]
    table = found.adaptation
    assert len(table) == 2 * 3 * 3 * 2  # learners, tasks, steps, episodes
    assert table.columns[:8] == "learner kind split task task.goal step env_steps episode".split()
    assert {row["kind"] for row in table} == {"run", "control"}
    array = found.evaluation.outcome.values  # pyright: ignore[reportOptionalMemberAccess]
    own = [row["return"] for row in table if row["kind"] == "run"]
    np.testing.assert_array_equal(np.reshape(own, array.shape), array)
    for row in found.summary:
        values = [
            x["return"] for x in table if (x["kind"], x["step"]) == (row["kind"], row["step"])
        ]
        assert row["mean"] == pytest.approx(np.mean(values))
    assert found.classes == []
    assert "3 test tasks" in repr(found)


def test_tables_become_frames(run, monkeypatch):
    frame = metarl.results(run).adaptation.frame()
    means = frame[frame.kind == "run"].groupby("step")["return"].mean()
    assert list(means.index) == [0, 1, 2]
    assert means[0] == pytest.approx(metarl.results(run).summary[0]["mean"])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"needs pandas.*\n.*metarl\[pandas\]"):
        Table([{"a": 1}]).frame()


def test_success_by_class_has_a_row_for_each_class(run, tmp_path):
    """The evaluation of a class benchmark, made from that of another run."""
    found = metarl.results(run).evaluation
    assert found is not None
    tasks = tuple({"class": name, "goal": 0} for name in ("push", "push", "reach"))
    classes = replace(metarl.results(run), evaluation=replace(found, tasks=tasks)).classes
    assert len(classes) == 2 * 2 * 3  # learners, classes, steps
    assert classes[0]["goals"] == 2
    assert all(0 <= row["success"] <= 1 for row in classes)


def test_the_name_evaluate_can_be_called_once_the_module_is_imported():
    code = (
        "import metarl, metarl.evaluate, importlib\n"
        "importlib.import_module('metarl.evaluate')\n"
        "try: metarl.evaluate('nowhere', steps=1)\n"
        "except metarl.UserError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("nowhere is no run"), done.stderr


def tasks_of_ones_own() -> dict[str, Any]:
    pendulums = gym_tasks("Pendulum-v1", {"m": metarl.Uniform(0.5, 2)}, horizon=8)
    return {"class": Lakes, "gym_tasks": pendulums}


@pytest.mark.parametrize("kind", ["class", "gym_tasks"])
def test_any_distribution_is_trained_on_and_evaluated(kind, tmp_path):
    """Twice, so that the second call continues the first's run."""
    tasks = tasks_of_ones_own()[kind]
    own = {"run_dir": tmp_path / "run", **SMALL}
    metarl.meta_train("point-goal", tasks, **{**own, "iterations": 1})
    made = metarl.meta_train("point-goal", tasks, **own)
    assert [row["iteration"] for row in rows(made)] == [1, 2]
    assert metarl.load_config(made / "config.yaml").env.name.partition(":")[0] in (
        __name__, own_code.GIVEN,
    )  # fmt: skip
    found = metarl.evaluate(made, tasks, num_tasks=2)
    assert len(found.adaptation) == 2 * 2 * 2
    assert any(name.startswith("task.") for name in found.adaptation.columns)
    with pytest.raises(UserError, match=r"code of your own.*\n.*`tasks=`"):
        metarl.evaluate(made)
    if kind == "gym_tasks":
        with pytest.raises(UserError, match=r"a Python script gave them.*\n.*metarl.evaluate"):
            evaluate_door.main([str(made)])


def test_a_horizon_of_ones_own_is_heeded(tmp_path):
    made = metarl.meta_train(
        "point-goal", Lakes, run_dir=tmp_path, **{**SMALL, "env": {"horizon": 5}, "iterations": 1}
    )
    assert metarl.results(made).training[0]["env_steps"] <= 2 * 9 * 5
    metarl.evaluate(made, Lakes(), num_tasks=2)


class Doubling:
    """Supervised tasks y = a x."""

    spec = metarl.FewShotSpec("doubling", (1,), 1, classes=False)

    def sample(self, num_tasks, rng, split="train"):
        return [{"slope": float(a)} for a in rng.uniform(1, 2, num_tasks)]

    def draw(self, tasks, shots, queries, rng):
        def some(count):
            x = rng.normal(size=(len(tasks), count, 1)).astype(np.float32)
            slopes = np.array([task["slope"] for task in tasks], np.float32)
            return metarl.Examples(torch.from_numpy(x), torch.from_numpy(slopes[:, None, None] * x))

        return some(shots), some(queries)

    def describe(self, task):
        return f"{task['slope']:.2f} x"


def test_supervised_tasks_are_trained_on_and_evaluated(tmp_path):
    labels = np.repeat(np.arange(8), 12)
    inputs = np.random.default_rng(0).normal(size=(8, 4))[labels].astype(np.float32)
    arrays = metarl.episodes_from_arrays(inputs, labels, ways=2)
    common: dict[str, Any] = {"iterations": 1, "device": "cpu", "threads": 1}
    common["sampling"] = {"tasks": 2, "updates": 2}
    few = {"env": {"shots": 2, "queries": 2}, "agent": "protonet", **common}
    network = {"agent.network.kind": "mlp", "agent.network.hidden": [4]}
    made = metarl.meta_train(
        "digits-protonet", arrays, run_dir=tmp_path / "a", settings=network, **few
    )
    found = metarl.evaluate(made, arrays, num_tasks=3)
    assert found.summary[0]["measure"] == "accuracy"
    made = metarl.meta_train("sinusoid-maml", Doubling, run_dir=tmp_path / "b", **common)
    found = metarl.evaluate(made, Doubling(), num_tasks=3, steps=1)
    assert {"task.slope", "mean_squared_error", "examples"} <= {*found.adaptation.columns}
    with pytest.raises(UserError, match="the tasks given are supervised tasks, and 'maml-trpo'"):
        metarl.meta_train("point-goal", Doubling)
    with pytest.raises(UserError, match="tasks of reinforcement, and 'maml' of the config"):
        metarl.meta_train("sinusoid-maml", Lakes)


def test_tasks_of_the_catalogue_keep_their_name(tmp_path):
    tasks = catalogue.make("bandit:5", 10)
    made = metarl.meta_train("point-goal", tasks, run_dir=tmp_path, **{**SMALL, "iterations": 1})
    assert metarl.load_config(made / "config.yaml").env.name == "bandit:5"
    assert len(metarl.evaluate(made, tasks=2).summary) == 2


def test_tasks_of_ones_own_and_those_of_another_distribution(run):
    found = metarl.evaluate(run, [{"goal": [0.25, 0.25]}], episodes=2)
    assert found.adaptation.column("task.goal") == [[0.25, 0.25]] * 4
    assert metarl.results(run, "own").summary == found.summary
    held_out = metarl.results(run).summary
    other = metarl.gym_tasks(
        "MountainCarContinuous-v0", {"power": metarl.Uniform(0.001, 0.002)}, horizon=5
    )
    with pytest.raises(UserError, match="not this agent's"):
        metarl.evaluate(run, other, num_tasks=2)
    with pytest.raises(UserError, match="--env bandit:5 has"):
        metarl.evaluate(run, "bandit:5")
    metarl.evaluate(run, catalogue.make("point-goal", 6), num_tasks=2)
    assert metarl.results(run, "other-tasks").adaptation[0]["return"] < 0
    assert metarl.results(run).summary == held_out


def test_a_folder_of_seeds_has_rows_of_each_seed_on_the_same_tasks(run, tmp_path):
    root = tmp_path / "seeds"
    for seed in (2, 10):
        metarl.meta_train(
            run / "config.yaml", run_dir=root / f"seed{seed}", seed=seed, iterations=1
        )
    told = Counted()
    found = metarl.evaluate(root, tasks=3, steps=1, callbacks=[told])
    assert told.runs == ["seed2", "seed10"]
    assert [row["iteration"] for row in found.training] == [1, 1]
    for table in (found.training, found.adaptation, found.summary):
        assert table.columns[0] == "seed"
        assert list(dict.fromkeys(table.column("seed"))) == [2, 10]
    goals = [[x["task.goal"] for x in found.adaptation if x["seed"] == seed] for seed in (2, 10)]
    assert goals[0] == goals[1]
    assert metarl.results(root).adaptation == found.adaptation
    metarl.evaluate(root, tasks=2, out=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["seed10", "seed2"]
    with pytest.raises(UserError, match="holds runs of seeds"):
        metarl.meta_train("point-goal", run_dir=root)


class Counted(metarl.Callback):
    def __init__(self):
        self.runs: list[str] = []

    def on_evaluation(self, results):
        self.runs.append(results.run.name)


def test_a_run_continues_by_its_folder_and_another_agent_takes_its_config(run, tmp_path):
    """Names in settings are those of the command line: what else they need comes along."""
    made = metarl.meta_train(run, run_dir=tmp_path / "a", iterations=np.int64(1), agent="promp")
    assert metarl.load_config(made / "config.yaml").agent.name == "promp"
    assert metarl.meta_train(made, iterations=2) == made
    assert [row["iteration"] for row in rows(made)] == [1, 2]
    few = {"agent.name": "promp", "env.name": "tabular-mdp", "agent": {"policy": {"hidden": (4,)}}}
    few |= {"sampling.tasks": 2, "sampling.episodes": 2, "iterations": 1, "workers": 0}
    made = metarl.meta_train("point-goal", run_dir=tmp_path / "b", settings=few)
    found = metarl.load_config(made / "config.yaml")
    assert found.agent.outer == agents.default("promp", "episodes").outer
    assert found.env == metarl.EnvConfig("tabular-mdp", catalogue.default_horizon("tabular-mdp"))


def test_settings_are_dotted_or_nested():
    assert nested({"a.b": 1, "a": {"c.d": 2}, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    for twice in ({"a": 1, "a.b": 2}, {"a": {"b": 1}, "a.b": 2}, {"a.b": 1, "a": {"b": 2}}):
        with pytest.raises(UserError, match="given twice"):
            nested(twice)


REFUSED = {
    "'point-gaol' is no preset; did you mean 'point-goal'": {"config": "point-gaol"},
    "config is 3; give a preset's name": {"config": 3},
    "meta_train: iterrations is no config key; did you mean iterations": {"iterrations": 3},
    "meta_train: agent.iner is no config key": {"settings": {"agent.iner.lr": 3}},
    "meta_train: iterations is 0; it must be": {"iterations": 0},
    "meta_train: iterations is 'many'; expected a whole number": {"iterations": "many"},
    "is no task distribution but int": {"tasks": 3},
    "is one environment; metarl.gym_tasks": {"tasks": lambda: gymnasium.make("CartPole-v1")},
    "callbacks: <class 'int'> is no callback": {"callbacks": [int]},
    "is no callback; give an object, EarlyStopping(...)": {"callbacks": [metarl.EarlyStopping]},
    "give a list of callbacks": {"callbacks": metarl.TensorBoard()},
    "agent is 3; give its name": {"agent": 3},
    "the agent is given twice": {"agent": "promp", "settings": {"agent.name": "promp"}},
    "iterations is given twice": {"iterations": 2, "settings": {"iterations": 3}},
    "run_dir is given twice": {"settings": {"run_dir": "elsewhere"}},
    "settings is 'seed=2'; give a mapping": {"settings": "seed=2"},
    "the tasks are given twice": {"tasks": "ant-dir", "env": "ant-dir"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_trained_is_refused(message, tmp_path):
    given: dict[str, Any] = {"config": "point-goal", "run_dir": tmp_path / "x", **REFUSED[message]}
    with pytest.raises(UserError) as refused:
        metarl.meta_train(given.pop("config"), **given)
    assert message in str(refused.value)
    assert not (tmp_path / "x").exists()


def test_what_cannot_be_evaluated_is_refused(run, tmp_path):
    with pytest.raises(UserError, match=r"is no run|there is no run"):
        metarl.evaluate(tmp_path / "nowhere")
    with pytest.raises(UserError, match="evaluate: stepps is no config key; did you mean steps"):
        metarl.evaluate(run, stepps=3)
    with pytest.raises(UserError, match="given twice, by `tasks` and by `num_tasks`"):
        metarl.evaluate(run, 3, num_tasks=3)
    goal = {"goal": [0.1, 0.2]}
    refused: list[tuple[dict[str, Any], str]] = [
        ({"tasks": []}, "empty list"),
        ({"tasks": [3]}, "give a list of tasks"),
        ({"tasks": True}, "tasks is True; expected a whole number"),
        ({"tasks": [goal], "own_tasks": [goal]}, "given twice, by `tasks` and by `own_tasks`"),
        ({"tasks": goal, "num_tasks": 3}, "num_tasks is 3, and 1 tasks of your own"),
        ({"run_dir": run}, "the run is given twice"),
        ({"env": {"name": "bandit:5"}}, "--env bandit:5 has"),
    ]
    for given, message in refused:
        with pytest.raises(UserError, match=message):
            metarl.evaluate(run, **given)
    with pytest.raises(UserError, match="run is None; give the path"):
        metarl.results(None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="there is no run directory"):
        metarl.results(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no evaluation 'all'; there are test"):
        metarl.results(run, "all")


def test_a_run_without_an_evaluation_has_its_training(run, tmp_path):
    made = metarl.meta_train(run / "config.yaml", run_dir=tmp_path, iterations=1)
    found = metarl.results(made)
    assert (found.evaluation, found.adaptation, found.summary) == (None, [], [])
    assert math.isfinite(found.training[0]["return/step1"])
    assert repr(found).endswith("1 iterations, no evaluation)")
