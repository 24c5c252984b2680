"""adaptation.json and .csv: what is written is read, what is wrong is named."""

import csv
import io
import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from metarl.errors import UserError
from metarl.runs.adaptation import Adaptation, Outcome, as_csv, described, read_json, write_json
from metarl.runs.measures import ACCURACY, MEAN_SQUARED_ERROR, Measure
from metarl.runs.statistics import summarise


def example(success: bool = True) -> Adaptation:
    rng = np.random.default_rng(0)
    returns = rng.normal(size=(4, 2, 3))
    return Adaptation(
        env="point-goal",
        agent="maml-trpo",
        split="test",
        steps=(0, 1),
        env_steps=(0, 300),
        tasks=tuple({"goal": [float(k), 0.1]} for k in range(4)),
        outcome=Outcome(returns, returns > 0, None, at(returns)) if success else Outcome(returns),
        controls={"random initialisation": Outcome(rng.normal(size=(4, 2, 5)), None, (0, 350))},
        others={"rival": Outcome(rng.normal(size=(4, 2, 1)))},
        made_from={"iteration": 7, "seed": 1, "horizon": 100},
    )


def at(returns: np.ndarray) -> np.ndarray:
    """Positive returns are of episodes solved, the higher the sooner."""
    return np.where(returns > 0, 100 - (20 * returns).astype(int), 0)


def few_shot(measure: Measure = MEAN_SQUARED_ERROR) -> Adaptation:
    values = np.random.default_rng(1).uniform(size=(4, 3, 1))
    return Adaptation(
        env="sinusoid",
        agent="maml",
        split="test",
        steps=(0, 1, 2),
        env_steps=(0, 10, 10),
        tasks=tuple({"amplitude": float(k)} for k in range(4)),
        outcome=Outcome(values),
        controls={"random initialisation": Outcome(values / 2, env_steps=(0, 5, 5))},
        others={"rival": Outcome(values / 3)},
        made_from={"iteration": 7, "seed": 1},
        measure=measure,
    )


@pytest.mark.parametrize(
    "before",
    [example(True), example(False), few_shot(), few_shot(ACCURACY)],
    ids=["success", "no success", "regression", "classification"],
)
def test_what_is_written_is_read(tmp_path, before):
    write_json(tmp_path / "adaptation.json", before)
    after = read_json(tmp_path / "adaptation.json")
    for name in ("env", "agent", "split", "steps", "env_steps", "tasks", "made_from", "measure"):
        assert getattr(after, name) == getattr(before, name)
    np.testing.assert_equal(asdict(after.outcome), asdict(before.outcome))
    for section in ("controls", "others"):
        found, expected = getattr(after, section), getattr(before, section)
        np.testing.assert_equal(
            {name: asdict(outcome) for name, outcome in found.items()},
            {name: asdict(outcome) for name, outcome in expected.items()},
        )
    write_json(tmp_path / "again.json", after)
    assert (tmp_path / "again.json").read_text() == (tmp_path / "adaptation.json").read_text()


def test_the_format(tmp_path):
    """Other tools read these keys: design.md, section 4."""
    adaptation = example()
    write_json(tmp_path / "adaptation.json", adaptation)
    document = json.loads((tmp_path / "adaptation.json").read_text())
    keys = "format env agent split steps env_steps tasks returns success solved_at summary"
    assert document.keys() == {*keys.split(), "success_summary", "controls", "others", "made_from"}
    assert document["format"] == 1
    summary = summarise(adaptation.outcome.values)
    assert document["summary"] == {k: v.tolist() for k, v in summary._asdict().items()}
    assert document["success"][0][0] == adaptation.outcome.success[0, 0].tolist()  # type: ignore
    assert document["solved_at"][0][0] == adaptation.outcome.solved_at[0, 0].tolist()  # type: ignore
    control = document["controls"]["random initialisation"]
    assert control.keys() == {"returns", "success", "solved_at", "summary", "env_steps"}
    assert document["others"]["rival"].keys() == {"returns", "success", "solved_at", "summary"}
    assert np.shape(control["returns"]) == (4, 2, 5)


def test_the_format_of_few_shot_tasks(tmp_path):
    """Nothing is called a return, an episode or an environment step."""
    write_json(tmp_path / "adaptation.json", few_shot())
    document = json.loads((tmp_path / "adaptation.json").read_text())
    keys = "format env agent split measure steps examples tasks values summary"
    assert document.keys() == {*keys.split(), "controls", "others", "made_from"}
    assert document["measure"] == "mean-squared error"
    assert document["examples"] == [0, 10, 10]
    assert document["values"] == few_shot().outcome.values.tolist()
    assert document["controls"]["random initialisation"].keys() == {"values", "summary", "examples"}
    assert document["others"]["rival"].keys() == {"values", "summary"}


def test_what_is_not_finite_is_null(tmp_path):
    """A learner may diverge; the others' figures stay."""
    whole = few_shot()
    values = whole.outcome.values.copy()
    values[2, 1] = np.inf
    write_json(tmp_path / "a.json", replace(whole, outcome=Outcome(values)))
    after = read_json(tmp_path / "a.json")
    assert np.isnan(after.outcome.values[2, 1, 0])
    assert np.isfinite(after.outcome.summary().mean).tolist() == [True, False, True]


def test_one_task_has_no_standard_error(tmp_path):
    whole = example()
    one = Adaptation(
        whole.env, whole.agent, whole.split, whole.steps, whole.env_steps, whole.tasks[:1],
        Outcome(whole.outcome.values[:1]),
    )  # fmt: skip
    write_json(tmp_path / "a.json", one)
    assert json.loads((tmp_path / "a.json").read_text())["summary"]["stderr"] == [None, None]
    assert read_json(tmp_path / "a.json").outcome.values.shape == (1, 2, 3)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 2, "format is 2"),
        ("env", None, "env is None, not of type str"),
        ("returns", [[1, 2], [3]], "returns is no array"),
        ("returns", [["high"]], "returns is no array of 3 axes"),
        ("returns", [[["high"]]], "returns is no array of float64: it holds str"),
        ("returns", [[[1.0]]], r"returns has shape \(1, 1, 1\), not 4 tasks x 2 steps"),
        ("success", [[[True]]], r"success has shape \(1, 1, 1\)"),
        ("success", [[[0.5]]], "success is no array of bool"),
        ("success", None, "solved_at and success disagree"),
        ("success", np.ones((4, 2, 3), bool).tolist(), "solved_at and success disagree"),
        ("solved_at", [[[1]]], r"solved_at has shape \(1, 1, 1\)"),
        ("solved_at", [[[0.5]]], "solved_at is no array of int64"),
        ("solved_at", np.full((4, 2, 3), -1).tolist(), "from -1 to -1, outside 0 to 100"),
        ("solved_at", np.full((4, 2, 3), 101).tolist(), "from 101 to 101, outside 0 to 100"),
        ("made_from", {"horizon": "long"}, r"made_from\.horizon is 'long', no positive"),
        ("made_from", {"horizon": True}, r"made_from\.horizon is True, no positive"),
        ("made_from", {"iteration": 10**30}, r"made_from\.iteration is 1000"),
        ("steps", [1, 0], r"steps is \[1, 0\], not 0, 1, 2"),
        ("env_steps", [0, -1], "env_steps holds -1 to 0, no counts"),
        ("env_steps", [0, None], "env_steps holds nan"),
        ("env_steps", [0, True], "env_steps is no array of float64: it holds bool"),
        ("returns", np.full((4, 2, 0), 1.0).tolist(), "it holds nothing"),
        (
            "solved_at",
            np.full((4, 2, 3), 10**30, object).tolist(),
            "solved_at is no array of int64",
        ),
        ("agent", "x" * 5000, "agent has a name of 5,000 characters"),
        ("controls", {"x": {"returns": [[["a"]]]}}, r"controls\.x\.returns is no array"),
        (
            "controls",
            {str(i): {"returns": [[[0.0] * 3] * 2] * 4} for i in range(120)},
            "has 122 learners; at most 100",
        ),
        ("made_from", {"horizon": 0}, r"made_from\.horizon is 0, no positive"),
        ("steps", [0, 0.5], "steps is no array of int64"),
        ("env_steps", [0], "env_steps has 1 values, not 2"),
        ("tasks", [1, 2, 3, 4], "tasks holds"),
        ("controls", {"x": {}}, r"controls\.x\.returns is missing"),
        ("controls", {"x": {"returns": [[[1.0]]]}}, r"controls\.x\.returns has shape"),
        ("controls", {"x": 1}, r"controls\.x is 1, not of type dict"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, key, value, message):
    path = tmp_path / "adaptation.json"
    write_json(path, example())
    document = {**json.loads(path.read_text()), key: value}
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=message) as error:
        read_json(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("measure", "key", "value", "message"),
    [
        (ACCURACY, "measure", "recall", "measure is 'recall'; this metarl reads return, mean"),
        (ACCURACY, "measure", 1, "measure is 1, not of type str"),
        (ACCURACY, "measure", "return", "env_steps is missing"),
        (ACCURACY, "examples", [0], "examples has 1 values, not 3"),
        (ACCURACY, "values", np.ones((4, 3, 2)).tolist(), "not 4 tasks x 3 steps x 1"),
        (ACCURACY, "values", np.full((4, 3, 1), 86.0).tolist(), r"values holds 86\.0, no share"),
        (ACCURACY, "values", np.full((4, 3, 1), -0.1).tolist(), r"holds -0\.1, no accuracy"),
        (MEAN_SQUARED_ERROR, "values", np.full((4, 3, 1), -0.1).tolist(), "no mean-squared error"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_few_shot_tasks_is_named(tmp_path, measure, key, value, message):
    path = tmp_path / "adaptation.json"
    write_json(path, few_shot(measure))
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(UserError, match=message):
        read_json(path)


def test_a_file_from_before_solved_at_was_kept(tmp_path):
    path = tmp_path / "adaptation.json"
    write_json(path, example())
    document = json.loads(path.read_text())
    for part in (document, document["others"]["rival"]):
        del part["solved_at"]
    path.write_text(json.dumps(document))
    after = read_json(path)
    assert after.outcome.solved_at is None
    np.testing.assert_array_equal(after.outcome.success, example().outcome.success)  # type: ignore


@pytest.mark.parametrize("key", ["format", "env", "steps", "tasks", "returns", "controls"])
def test_a_missing_key_is_named(tmp_path, key):
    path = tmp_path / "adaptation.json"
    write_json(path, example())
    document = json.loads(path.read_text())
    del document[key]
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=f"{key} is missing"):
        read_json(path)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_no_json(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json"):
        read_json(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"b\.json cannot be read"):
        read_json(tmp_path / "b.json")


@pytest.mark.parametrize("success", [True, False])
def test_a_csv_line_per_episode(success):
    adaptation = example(success)
    lines = list(csv.DictReader(io.StringIO(as_csv(adaptation).decode())))
    learners = [line["learner"] for line in lines]
    assert [learners.count(name) for name in ("maml-trpo", "rival", "random initialisation")] == [
        4 * 2 * 3, 4 * 2, 4 * 2 * 5,
    ]  # fmt: skip
    assert lines[-1]["env_steps"] == "350"  # its own
    last = lines[4 * 2 * 3 - 1]
    place = {"task": "3", "step": "1", "episode": "2", "env_steps": "300"}
    assert place.items() <= last.items()
    value = adaptation.outcome.values[3, 1, 2]
    assert float(last["return"]) == value
    assert last["success"] == (str(int(value > 0)) if success else "")


def test_a_csv_line_per_few_shot_task_and_step():
    adaptation = few_shot()
    lines = as_csv(adaptation).decode().splitlines()
    assert lines[0] == "learner,task,step,mean_squared_error,examples"
    assert len(lines) == 1 + 3 * 4 * 3
    value = adaptation.outcome.values[3, 2, 0]
    assert lines[4 * 3] == f"maml,3,2,{float(value)!r},10"
    assert lines[-1] == f"random initialisation,3,2,{float(value / 2)!r},5"


def test_values_that_describe_tasks_are_counted():
    assert described([{"goal": np.arange(50)}, {"goal": np.arange(50)}]) >= 100
