"""Tasks that a user gives: words and files, and whether the distribution has such tasks."""

import enum
import json
import types
from typing import Any

import numpy as np
import pytest

import metarl
from metarl.config.settings import FewShotEnvConfig
from metarl.envs import catalogue, given_tasks
from metarl.envs.gym.parameters import Normal, ParameterTasks, Uniform
from metarl.envs.supervised import families
from metarl.errors import UserError
from metarl.runs.plain import plain


class Map(enum.Enum):
    SMALL = 1
    LARGE = 2


class Own:
    """A user's class; its tasks have an array, a tuple, a member of an enumeration and a map."""

    horizon = 5

    def sample(self, num, rng, split):
        del split
        return [
            {"wind": rng.random(2), "size": (1, 2), "map": Map.SMALL, "a": {"b": True}}
            for _ in range(num)
        ]

    def make(self, task):
        raise NotImplementedError


def tasks_of(name):
    match name:
        case "cart":
            return metarl.gym_tasks(
                "CartPole-v1",
                {"gravity": metarl.Uniform(5, 15), "length": metarl.Choice([0.5, 1.0])},
                horizon=20,
            )
        case "listed":
            return metarl.gym_tasks(
                "CartPole-v1", train=[{"gravity": 5.0}], test=[{"gravity": 6.0}], horizon=20
            )
    if families.is_one(name):
        return families.build(FewShotEnvConfig(name=name, shots=1, queries=1))
    return catalogue.make(name, catalogue.default_horizon(name))


@pytest.mark.parametrize(
    ("name", "word", "expected"),
    [
        ("half-cheetah-vel", "velocity=1", {"velocity": 1.0}),
        ("half-cheetah-vel", '{"velocity": 1.5}', {"velocity": 1.5}),
        ("half-cheetah-dir", "direction=-1", {"direction": -1.0}),
        ("ant-vel:gymnasium", "velocity=+2.", {"velocity": 2.0}),
        ("ant-dir", "direction=1", {"direction": 1.0}),
        ("ant-dir:2d", "angle=1.5", {"angle": 1.5}),
        ("ant-goal", "goal=1,-2", {"goal": [1.0, -2.0]}),
        ("reacher-goal", "goal=0,-0.2", {"goal": [0.0, -0.2]}),
        ("half-cheetah-gravity", "gravity=8", {"gravity": 8.0}),
        ("point-goal", "goal=.1,-2e-1", {"goal": [0.1, -0.2]}),
        ("point-goal", "goal=[0.1, 0]", {"goal": [0.1, 0.0]}),
        ("bandit:5", "probabilities=0,.2,.3,.4,1", {"probabilities": [0.0, 0.2, 0.3, 0.4, 1.0]}),
        ("tabular-mdp", "mdp=7", {"mdp": 7}),
        ("sinusoid", "amplitude=1,phase=2", {"amplitude": 1.0, "phase": 2.0}),
        ("polynomial:2", "coefficients=1,0,0", {"coefficients": [1.0, 0.0, 0.0]}),
        ("digits", "classes=9,0,1,2,3", {"classes": [9, 0, 1, 2, 3]}),
        ("cart", "length=1,gravity=9.8", {"length": 1.0, "gravity": 9.8}),
        ("listed", "gravity=6", {"gravity": 6.0}),
        ("ml1:push-v3", "class=push-v3,goal=3", {"class": "push-v3", "goal": 3, "split": "test"}),
        ("ml10", "class=push-v3,goal=3", {"class": "push-v3", "goal": 3, "split": "train"}),
    ],
)
def test_each_family_takes_its_tasks(name, word, expected):
    """What a task says of itself as a word is the same task again, but for rounding."""
    distribution = tasks_of(name)
    (task,) = given_tasks.parsed([word], distribution)
    assert task == expected
    assert plain(task) == json.loads(json.dumps(task))
    assert not given_tasks.remarks([task], distribution) or name == "listed"
    (again,) = given_tasks.parsed([given_tasks.as_word(task)], distribution)
    assert again == task


@pytest.mark.parametrize(
    ("name", "word", "said"),
    [
        ("half-cheetah-vel", "speed=1", "'speed' is no key"),
        ("ant-goal", "goal=1", "goal is 1; expected a list of 2 values"),
        ("humanoid-dir", "angle=left", "angle is 'left'; expected a number"),
        ("half-cheetah-vel", "", "no KEY=VALUE"),
        ("half-cheetah-vel", "1.5", "no KEY=VALUE"),
        ("half-cheetah-vel", "velocity", "no KEY=VALUE"),
        ("half-cheetah-vel", "velocity=", "expected a number"),
        ("half-cheetah-vel", "velocity=fast", "expected a number"),
        ("half-cheetah-vel", "velocity=true", "expected a number"),
        ("half-cheetah-vel", "velocity=nan", "expected a number"),
        ("half-cheetah-vel", "velocity=1e999", "give finite"),
        ("half-cheetah-vel", '{"velocity": NaN}', "give finite"),
        ("half-cheetah-vel", "velocity=" + "9" * 4000, "give finite"),
        ("half-cheetah-vel", '{"velocity": ' + "9" * 4000 + "}", "not as large"),
        ("half-cheetah-vel", '{"velocity": 1', "not JSON"),
        ("half-cheetah-vel", "velocity=1,velocity=2", "comes twice"),
        ("half-cheetah-vel", "velocity=1,2", "expected a number"),
        ("half-cheetah-vel", "velocity=" + "[" * 900, "expected a number"),
        ("point-goal", "goal=0.1", "a list of 2 values"),
        ("point-goal", "goal=0.1,0.2,0.3", "a list of 2 values"),
        ("point-goal", "goal=0.1,x", "expected a number"),
        ("point-goal", "goal[0]=0.1,goal[2]=1", "'goal[0]' is no key"),
        ("bandit:5", "probabilities=0,0,0,0,1.5", "from 0 to 1"),
        ("tabular-mdp", "mdp=-1", "from 0 to 4294967295"),
        ("tabular-mdp", "mdp=1.5", "a whole number"),
        ("sinusoid", "amplitude=1", "phase is missing"),
        ("digits", "classes=1,2,3,4,77", "expected one of 0, 1"),
        ("digits", "classes=1,1,2,3,4", "the class 1 comes twice"),
        ("ml1:push-v3", "class=pusj-v3,goal=1", "did you mean 'push-v3'?"),
        ("ml1:push-v3", "class=push-v3,goal=50", "from 0 to 49"),
        ("ml10", "class=push-v3,goal=3,split=test", "a class of the train split"),
    ],
)  # fmt: skip
def test_other_words_are_refused_in_two_lines(name, word, said):
    with pytest.raises(UserError) as refused:
        given_tasks.parsed([word], tasks_of(name))
    message = str(refused.value)
    assert said in message
    assert message.startswith("--task ")
    assert message.count("\n") == (0 if said == "not JSON" else 1)
    assert len(message) < 600


@pytest.mark.parametrize(
    ("name", "word", "said"),
    [
        ("half-cheetah-vel:maml2017", "velocity=3", "velocity 3.0 is out of distribution"),
        ("half-cheetah-dir", "direction=0.5", "one of 1, -1"),
        ("point-goal", "goal=0,3", "from -0.5 to 0.5"),
        ("ant-goal", "goal=2.9,2.9", "training has places within 3 of the origin"),
        ("reacher-goal", "goal=0.2,-0.1", "training has places within 0.2 of the origin"),
        ("cart", "length=2,gravity=9", "length 2.0"),
        ("listed", "gravity=6", "one of 5"),
        ("sinusoid", "amplitude=9,phase=1", "amplitude 9.0"),
    ],
)
def test_what_training_never_draws_is_allowed_and_said(name, word, said):
    distribution = tasks_of(name)
    (remark,) = given_tasks.remarks(given_tasks.parsed([word], distribution), distribution)
    assert said in remark


def test_own_classes_get_values_of_their_own_types():
    distribution = metarl_own()
    word = '{"wind": [0, 1], "size": [3, 4], "map": "HUGE", "a": {"b": false}}'
    with pytest.raises(UserError, match="one of SMALL, LARGE"):
        given_tasks.parsed([word], distribution)
    word = word.replace("HUGE", "LARGE")
    (task,) = given_tasks.parsed([word], distribution)
    assert task["size"] == (3, 4)
    assert task["map"] is Map.LARGE
    assert task["wind"].dtype == np.float64
    (remark,) = (x for x in given_tasks.remarks([task], distribution) if x.startswith("map"))
    assert "by 200 of its tasks" in remark
    with pytest.raises(UserError, match="with the keys b"):
        given_tasks.checked([{**task, "a": {}}], distribution)


def metarl_own():
    from metarl.envs.gym.tasks import class_tasks

    made = class_tasks(Own(), "own")
    object.__setattr__(made, "_spec", types.SimpleNamespace(name="own"))  # no environment
    return made


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.json", '[{"goal": [0.1, 0.2]}, {"goal": [0, -0.3]}]'),
        ("a.json", '\ufeff{"format": 1, "tasks": [{"goal": [0.1, 0.2]}, {"goal": [0, -0.3]}]}'),
        ("a.yaml", "- goal: [0.1, 0.2]\n- goal: [0, -0.3]\n"),
        ("a.yml", "tasks:\n- {goal: [0.1, 0.2]}\n- {goal: [0, -0.3]}\n"),
        ("a.csv", 'goal\n"[0.1, 0.2]"\n"[0, -0.3]"\n'),
        ("a.csv", "goal[0], goal[1]\r\n0.1,0.2\r\n\r\n0,-0.3\r\n"),
    ],
)
def test_files_of_tasks(tmp_path, file, text):
    (tmp_path / file).write_text(text)
    found = given_tasks.in_file(tmp_path / file, tasks_of("point-goal"))
    assert found == [{"goal": [0.1, 0.2]}, {"goal": [0.0, -0.3]}]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("a.txt", "", "no file of tasks"),
        ("missing.json", None, "cannot be read"),
        ("a.json", "", "not JSON"),
        ("a.json", "[]", "holds 0 tasks"),
        ("a.json", '[{"goal": [0, 0]}, 3]', "task 2 is 3"),
        ("a.json", '[{"goal": [0, 0]}, {"gaol": 1}]', "a.json, task 2: 'gaol' is no key"),
        ("a.json", "[{}" + ",{}" * 10_000 + "]", "holds 10,001 tasks"),
        ("a.json", "[" * 5000, "not JSON|too deeply"),
        ("a.json", " " * (1 << 20) + "[]", "more than the"),
        ("a.yaml", "- &a {goal: [0, 0]}\n- *a\n", "anchors"),
        ("a.yaml", "", "task 1 is None"),
        ("a.csv", "", "holds 0 tasks"),
        ("a.csv", "goal,goal\n1,2\n", "no names of columns"),
        ("a.csv", "goal[0],goal[1]\n1\n", "line 2 has 1 values"),
        ("a.csv", "goal\n1\n", "a list of 2 values"),
        ("a.csv", "goal\n\0\n", "is no CSV|a list of 2"),
    ],
)
def test_other_files_are_refused(tmp_path, file, text, said):
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=said) as refused:
        given_tasks.in_file(tmp_path / file, tasks_of("point-goal"))
    assert file in str(refused.value)
    assert str(refused.value).count("\n") <= 1


def test_tasks_of_python_are_checked_as_words_are():
    distribution = tasks_of("point-goal")
    assert given_tasks.checked([{"goal": (0, np.float32(0.5))}], distribution) == [
        {"goal": [0.0, 0.5]}
    ]
    wrong: Any
    for wrong in ({"goal": [0, 0]}, [3], 3, "goal=1"):
        with pytest.raises(UserError, match="own_tasks"):
            given_tasks.checked(wrong, distribution)


def test_vectors_are_judged_by_component_and_normal_ones_by_their_usual_range():
    bounds = ParameterTasks(
        {"a": Uniform([0, 0], [1, 5]), "b": Normal([0.0, 1.0], [1.0, 2.0], low=[-1, -99])}
    ).bounds
    assert bounds["a"].holds([0.5, 4])
    assert not bounds["a"].holds([4, 0.5])
    assert bounds["b"].holds([-0.9, 8.9])
    assert not bounds["b"].holds([-1.1, 8.9])
    assert not bounds["b"].holds([-0.9, 9.1])
