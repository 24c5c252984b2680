"""`metarl export`: an adapted policy from the command line."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from saved_runs import OneTask, saved, saved_examples

import metarl
from metarl.commands import export
from metarl.config.settings import EnvConfig, FewShotEnvConfig


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("runs") / "run", "maml-trpo")


@pytest.fixture
def module(monkeypatch):
    """A user's module `my_robot`, whose `make` returns an environment with point-goal's spaces."""

    class Robot:
        __name__ = "my_robot"

        @staticmethod
        def make():
            from metarl.envs.catalogue import configured

            return OneTask(configured(EnvConfig("point-goal", 6)), {"goal": [0.3, -0.2]})

        number = 3

    monkeypatch.setitem(sys.modules, "my_robot", Robot)


def refused(said: str, *argv: object):
    with pytest.raises(metarl.UserError, match=said) as raised:
        export.main([str(x) for x in argv])
    assert len(str(raised.value).splitlines()) <= 3


def test_a_policy_is_that_of_the_library(run, module, tmp_path, capsys):
    loaded = metarl.load(run)
    task, obs = {"goal": [0.3, -0.2]}, np.array([0.1, 0.2], np.float32)
    asked = ["--episodes", 3, "--steps", 2, "--seed", 4]
    for name, where in (("task", ["--task", "goal=0.3,-0.2"]), ("env", ["--env", "my_robot:make"])):
        export.main([*map(str, [run, *where, *asked, "--out", tmp_path / name])])
        found = metarl.load_policy(tmp_path / name)
        expected = loaded.adapt(task, episodes=3, steps=2, seed=4).act(obs)
        np.testing.assert_allclose(found.act(obs), expected, atol=1e-6)
        assert str(tmp_path / name) in capsys.readouterr().out


@pytest.mark.slow  # Stable-Baselines3 is slow to import
def test_a_model_of_stable_baselines3(run, tmp_path):
    from stable_baselines3 import PPO

    export.main(
        [str(run), "--task", "goal=0.3,-0.2", "--format", "sb3", "--out", str(tmp_path / "a.zip")]
    )
    with (tmp_path / "a.zip").open("rb") as file:
        assert file.read(2) == b"PK"
    assert PPO


def test_what_is_refused(run, module, tmp_path):
    out, task = ["--out", tmp_path / "policy"], ["--task", "goal=0.3,-0.2"]
    refused("no run directory", "--out", "x")
    refused("no place for the policy", run, *task)
    refused("nothing to adapt to", run, *out)
    refused("is no key", run, "--task", "gaol=1,2", *out)
    refused("gymnasium makes no such environment", run, "--env", "Cart-v9", *out)
    refused("no gymnasium environment", run, "--env", "my_robot:number", *out)
    refused("gives observations of 4 numbers", run, "--env", "CartPole-v1", *out)
    refused("steps is 0; it must be at least 1", run, *task, "--steps", 0, *out)
    refused("--agent is 'x:y'", run, *task, "--agent", "x:y", *out)
    refused("exists already", run, *task, "--out", tmp_path)
    assert list(tmp_path.iterdir()) == []
    few = saved_examples(tmp_path / "few", "maml", FewShotEnvConfig("sinusoid"))
    refused("learned from examples", few, *task, *out)


def test_a_gymnasium_environment_by_its_id(tmp_path, monkeypatch):
    env = gymnasium.make("CartPole-v1")
    tasks = metarl.gym_tasks(
        "CartPole-v1", {"gravity": metarl.Uniform(8, 12)}, horizon=20, name="my_carts:tasks"
    )
    run = saved(tmp_path / "run", "maml-trpo", tasks, EnvConfig("my_carts:tasks", 20))
    out = ["--out", tmp_path / "policy"]
    refused("run only where.*\nadd --env my_carts:tasks beside", run, "--env", "CartPole-v1", *out)
    refused("nothing to adapt to", run, "--env", "my_carts:tasks", *out)
    refused("one environment", run, "--env", "a:b", "--env", "CartPole-v1", *out)
    monkeypatch.setitem(sys.modules, "my_carts", SimpleNamespace(tasks=tasks))
    both = ["--env", "my_carts:tasks", "--env", "CartPole-v1", "--episodes", "2"]
    export.main([*map(str, [run, *both, *out])])
    assert metarl.load_policy(tmp_path / "policy").act(np.zeros(4, np.float32)) in (0, 1)
    adapted = metarl.load(run, tasks=tasks).adapt(env, 2, 1)
    assert adapted.act(env.reset(seed=0)[0]) in (0, 1)
