"""Policies that act: spaces of every kind, what they refuse, and their files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple
from safetensors.numpy import load_file, save_file
from saved_runs import OneTask, saved

import metarl
from metarl.config.settings import EnvConfig
from metarl.deployment import folder
from metarl.deployment.spaces import as_json, from_json
from metarl.envs.gym.tasks import class_tasks
from metarl.errors import EnvFaultError

SEEN = Dict(
    {
        "where": Box(-1, 1, (2,), np.float32),
        "which": Discrete(3, start=5),
        "flags": Tuple([MultiBinary(2), Box(0, 255, (1, 2), np.uint8)]),
    }
)
ACTED = {
    "box": Box(np.array([[-2.0, 0.0]]), np.array([[2.0, 1.0]]), dtype=np.float64),
    "discrete": Discrete(4, start=-1),
    "multidiscrete": MultiDiscrete(np.array([[2, 3]])),
}


class Robot(gymnasium.Env):
    """Takes any action of its space, and refuses others."""

    def __init__(self, acted="box", spoil=None):
        self.observation_space, self.action_space = SEEN, ACTED[acted]
        self.spoil, self.resets = spoil, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.resets = 0, self.resets + 1
        return self.observe(), {}

    def step(self, action):
        assert self.action_space.contains(action if isinstance(action, int) else np.array(action))
        self.steps += 1
        if self.spoil == "motor":
            raise ArithmeticError("the motor burnt")
        reward = np.nan if self.spoil == "reward" else float(np.sum(action))
        return self.observe(), reward, self.steps == 3, False, {}

    def observe(self):
        where = self.np_random.normal(size=2).astype(np.float32)
        which = np.int64(5 + self.np_random.integers(3))
        flags = (np.array([0, 1], np.int8), np.array([[3, 200]], np.uint8))
        return {"where": where, "which": which, "flags": flags}


class OwnTasks:
    """A user's own class of one task."""

    horizon = 4

    def __init__(self, acted):
        self.acted = acted

    def sample(self, num, rng, split):
        return [{"x": 1.0}] * num

    def make(self, task):
        return Robot(self.acted)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of maml-trpo and rl2 on `Robot`, by its action space, and the tasks."""
    root, found = tmp_path_factory.mktemp("runs"), {}
    for acted in ACTED:
        tasks = own(acted)
        for name in ("maml-trpo", "rl2"):
            env = EnvConfig("my_module:tasks", 4)
            path = saved(root / f"{acted}-{name}", name, tasks, env)
            found[acted, name] = metarl.load(path, tasks=tasks)
    return found


def own(acted):
    return class_tasks(OwnTasks(acted), "my_module:tasks")


@pytest.mark.parametrize("name", ["maml-trpo", "rl2"])
@pytest.mark.parametrize("acted", list(ACTED))
def test_observations_and_actions_have_the_environments_own_format(acted, name, runs, tmp_path):
    env = Robot(acted)
    adapted = runs[acted, name].adapt(env, episodes=2, steps=1)
    assert env.resets == 2
    loaded = metarl.load_policy(adapted.save(tmp_path / "policy"))
    for policy in (adapted, loaded):
        assert type(policy) in (metarl.AdaptedPolicy, metarl.Policy)
        rng = np.random.default_rng(0)
        for explore in (False, True):
            obs, _ = env.reset(seed=int(rng.integers(9)))
            ended = False
            while not ended:
                obs, reward, ended, _, _ = env.step(policy.act(obs, explore=explore))
                policy.observe(reward, ended)
    first = env.reset(seed=1)[0]
    for policy in (adapted, loaded):
        policy.start()
    one, other = adapted.act(first), loaded.act(first)
    assert type(one) is type(other) is (int if acted == "discrete" else np.ndarray)
    np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def point(tmp_path_factory):
    """maml-trpo on point-goal, loaded; its observations are two numbers."""
    return metarl.load(saved(tmp_path_factory.mktemp("point") / "run", "maml-trpo"))


def test_exploration_depends_on_the_seed_alone(point):
    (task,) = point.sample_tasks(1)
    policies = [point.adapt(OneTask(point.base, task), 1, 1, seed=s) for s in (3, 3, 4)]
    a, b, c = ([p.act(np.zeros(2), explore=True) for _ in range(9)] for p in policies)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert len(np.unique(a, axis=0)) > 1
    assert np.array_equal(policies[0].act(np.ones(2)), policies[1].act(np.ones(2)))


def refused(said: str, call: Callable, *args: Any, error: Any = metarl.UserError, **kwargs: Any):
    with pytest.raises(error, match=said) as raised:
        call(*args, **kwargs)
    assert len(str(raised.value).splitlines()) <= 3


@pytest.mark.parametrize("name", ["maml-trpo", "rl2"])
def test_no_steps_give_the_policy_before_adaptation(name, runs, tmp_path):
    env = Robot()
    before = runs["box", name].adapt(env, steps=0)
    assert env.resets == 0
    assert before.support_returns == ()
    obs = env.reset(seed=0)[0]
    action = metarl.load_policy(before.save(tmp_path / "policy")).act(obs)
    assert np.array_equal(action, before.act(obs))
    after = runs["box", name].adapt(env, episodes=3)
    ours, theirs = (
        x._ready(
            np.ones((1, 1, 9), np.float32),
            np.zeros((1, 1), np.float32),
            np.zeros((1, 1, 2), np.float32),
        )[1]
        for x in map(begun, (before, after))
    )
    assert not np.allclose(ours, theirs)


def begun(policy):
    policy.start()
    return policy


def test_what_act_refuses(point, runs):
    adapted = point.adapt(point.sample_tasks(1)[0], 2, 1)
    refused("batch of 7 observations.*\n.*each", adapted.act, np.zeros((7, 2), np.float32))
    refused("nan at index 1 of 2", adapted.act, np.array([0.0, np.nan]))
    refused(r"shape \(3,\)", adapted.act, np.zeros(3))
    refused(r"'north' \(str\), not in", adapted.act, "north")
    refused("None .NoneType., not in", adapted.act, None)
    refused(r"\[\[1\], \[1, 2\]\] \(list\), not in", adapted.act, [[1], [1, 2]])
    refused("has inf at index 1 of 2", adapted.act, [0.0, 1e39])
    refused("reward nan", adapted.observe, np.nan)
    refused("reward None", adapted.observe, None)
    refused("reward 1e.39", adapted.observe, 1e39)
    same = [adapted.act(x) for x in (np.ones(2), [1, 1], torch.ones(2), np.ones(2, int))]
    assert all(np.array_equal(same[0], x) for x in same)
    told = runs["discrete", "rl2"].adapt(Robot("discrete"), 1)
    obs = Robot().reset(seed=0)[0]
    told.act(obs)
    refused("before observe.*\n.*every step", told.act, obs)
    refused("before observe", told.start, remember=True)
    told.observe(1.0)
    told.act(obs)
    told.start()  # the episode was left
    told.act(obs)
    refused("the observation is", told.act, {"where": 1})


def test_what_adapt_refuses(point, runs):
    (task,) = point.sample_tasks(1)
    for name, least in (("episodes", 1), ("steps", 0)):
        for value in (least - 1, -7, 1.5, True):
            refused(f"{name} is {value}; .* at least {least}", point.adapt, task, **{name: value})
    refused("gives observations of 9 numbers.*point-goal, with 2\n", point.adapt, Robot())
    other = OneTask(point.base, task)
    other.action_space = Discrete(3)
    refused(r"takes actions in Discrete\(3\).*Box.*\n.*wrap", point.adapt, other)
    refused("seed is -1", point.adapt, task, seed=-1)
    alone = OneTask(point.base, task)
    for source in (alone, task, [task, task]):
        refused("TiB of memory.*\n.*are for episodes", point.adapt, source, 10**12, 1)
    refused("TiB of memory.*\n.*are for number", point.sample_tasks, 10**12)
    refused("which is not called", point.adapt, type(alone))
    refused("given None; give a gymnasium", point.adapt, None)
    refused("vector of environments", point.adapt, gymnasium.make_vec("CartPole-v1", 2))
    refused("is no key", point.adapt, {"gaol": [0, 1]})
    refused("given one recorded episode", point.adapt, {"obs": 1, "actions": 1, "rewards": 1})
    loaded = runs["box", "maml-trpo"]
    refused("reward is nan", loaded.adapt, Robot(spoil="reward"), 2, 1, error=EnvFaultError)
    refused("training with such|with such", point.adapt, Robot())
    refused("learned point-goal", point.adapt, [task], tasks=loaded.base)
    refused("tasks is 'mine'; give a distribution", point.adapt, [task], tasks="mine")
    refused("tasks is <.*give a distribution", point.adapt, [task], tasks=alone)


def test_an_environments_own_error_is_the_cause(runs):
    """So a notebook shows the line of the user's that raised it."""
    with pytest.raises(EnvFaultError, match="motor burnt; episode 0, step 1") as raised:
        runs["box", "maml-trpo"].adapt(Robot(spoil="motor"), 2, 1)
    assert isinstance(raised.value.__cause__, ArithmeticError)
    assert raised.value.__cause__.__traceback__ is not None


def test_what_is_no_recorded_episode(point):
    good = {
        "obs": np.zeros((4, 2)),
        "actions": np.zeros((3, 2)),
        "rewards": [1.0, 2.0, 3.0],
        "terminated": False,
    }
    point.adapt([good, good], steps=2)
    point.adapt([{**good, "obs": np.zeros((3, 2)), "terminated": [False, False, True]}])
    nothing = np.zeros((4, 2))
    nothing[2, 1] = np.inf
    for change, said in (
        ({"obs": np.zeros((3, 2))}, "episode 0 has 3 rewards and 3 obs; give 4"),
        ({"obs": np.zeros((4, 3))}, r"episode 0, obs\[0\]: .*shape"),
        ({"obs": nothing}, r"obs\[2\] has a number that is not finite"),
        ({"actions": np.zeros((2, 2))}, "2 actions; give 3"),
        ({"actions": np.zeros((3, 1))}, r"actions\[0\] is .*not in Box"),
        ({"rewards": []}, "rewards"),
        ({"rewards": [1.0, np.nan, 1.0]}, "step 2 is nan"),
        ({"rewards": [1.0] * 7, "actions": np.zeros((7, 2))}, "7 steps.* horizon is 6"),
        ({"terminated": 2}, "terminated is 2"),
        ({"terminated": [True, False, False]}, "terminated is"),
    ):
        refused(said, point.adapt, [{**good, **change}])
    refused("has no terminated", point.adapt, [{k: v for k, v in good.items() if k[0] != "t"}])
    refused("cannot be divided among 2 steps", point.adapt, [good] * 3, steps=2)
    refused("leave it out", point.adapt, [good], episodes=1)


def test_what_load_refuses(tmp_path, point):
    path = saved(tmp_path / "run", "maml-trpo")
    assert metarl.load(path, 1).facts["iteration"] == 1
    assert metarl.load(path, "best", inner_lr=0.25).agent.config.inner.lr == 0.25
    refused("checkpoint is 7.*iterations 1\n", metarl.load, path, 7)
    refused("checkpoint is 'newest'", metarl.load, path, "newest")
    refused("is no run", metarl.load, tmp_path)
    refused("device is 'gpu'", metarl.load, path, device="gpu")
    for wrong in (0, -1.0, "0.1", np.nan, np.inf, True):
        refused("inner_lr is .*; give a number above 0", metarl.load, path, inner_lr=wrong)
    refused("'CartPole-v1'.*'point-goal'\nleave tasks out", metarl.load, path, tasks="CartPole-v1")
    mine = saved(tmp_path / "own", "maml-trpo", own("box"), EnvConfig("my_module:tasks", 4))
    refused("run only where", metarl.load, mine)
    refused("is for agent.adapt", metarl.load, path, tasks=Robot())
    told = metarl.load(saved(tmp_path / "oracle", "oracle-trpo"))
    (task,) = told.sample_tasks(1)
    env = OneTask(told.base, task)
    refused("no task is given\ngive task=, such as", told.adapt, env)
    refused("has 1 numbers", told.adapt, env, task={"goal": [1.0]})
    refused("no environment gives", told.adapt(task, 1, 1).to_sb3, env)


def test_a_damaged_policy_is_refused(point, tmp_path):
    adapted = point.adapt(point.sample_tasks(1)[0], 2, 1)
    path = adapted.save(tmp_path / "policy")
    refused("exists already", adapted.save, path)
    (tmp_path / "file").write_text("")
    refused("exists already", adapted.save, tmp_path / "file")
    refused("cannot be written|can be written", adapted.save, tmp_path / "file" / "policy")
    refused("no such folder", metarl.load_policy, tmp_path / "nowhere")
    run = saved(tmp_path / "run", "maml-trpo")
    refused(r"no saved policy.*\nit is a run: metarl.load", metarl.load_policy, run)
    for call in (adapted.save, metarl.load_policy, metarl.load):
        for wrong in (None, 5, "", "a\0b"):
            refused("the path of the .* is .*; give a folder", call, wrong)
    whole = {file.name: file.read_bytes() for file in path.iterdir()}
    assert sorted(whole) == ["manifest.json", "policy.json", "policy.safetensors"]
    for name, content in whole.items():
        for other in (content[:-9], content.replace(b"1", b"2", 1), b""):
            (path / name).write_bytes(other)
            refused("damaged|format", metarl.load_policy, path)
        (path / name).unlink()
        refused("damaged|has no manifest", metarl.load_policy, path)
        (path / name).write_bytes(content)
    metarl.load_policy(path)


def forge(path, document=None, tensors=None):
    """Changes a policy and makes its digests fit."""
    whole = json.loads((path / folder.DOCUMENT).read_text())
    (path / folder.DOCUMENT).write_text(json.dumps({**whole, **(document or {})}))
    kept = {**load_file(path / folder.TENSORS), **(tensors or {})}
    save_file({k: x for k, x in kept.items() if x is not None}, path / folder.TENSORS)
    digests = {name: folder._digest((path / name).read_bytes()) for name in folder.SIZES}
    (path / folder.MANIFEST).write_bytes(folder._manifest(digests))


@pytest.mark.parametrize(
    ("document", "tensors"),
    [
        ({"kind": "forest"}, None),
        ({"action_space": {"kind": "discrete", "n": 2, "start": 0}}, None),
        ({"action_space": {"kind": "discrete", "n": 10**12, "start": 0}}, None),
        ({"observation_space": {"kind": "box", "shape": [10**9, 10**9], "dtype": "f4"}}, None),
        ({"observation_space": {"kind": "box", "shape": [3], "dtype": "float32"}}, None),
        ({"observation_space": {"kind": "box", "shape": [2], "dtype": "O"}}, None),
        ({"observation_space": [[]]}, None),
        ({"noise": ["normal", 10**9]}, None),
        ({"activation": "gelu"}, None),
        ({"clip": 3.0}, None),
        ({"min_log_std": "nan"}, None),
        ({"min_log_std": 1e999}, None),
        ({"made_from": 3}, None),
        (None, {"layer1.weight": None}),
        (None, {"layer0.weight": np.zeros((1, 2, 5), np.float32)}),
        (None, {"layer0.weight": np.full((1, 2, 6), np.nan, np.float32)}),
        (None, {"told": np.zeros(4, np.int64)}),
        (None, {"family.middle": np.zeros(2, np.float32)}),
    ],
)
def test_a_policy_of_a_stranger_is_read_with_its_types(document, tensors, point, tmp_path):
    path = point.adapt(point.sample_tasks(1)[0], 1, 1).save(tmp_path / "policy")
    forge(path)
    metarl.load_policy(path)
    forge(path, document, tensors)
    refused("damaged", metarl.load_policy, path)


def test_a_policy_is_loaded_without_torch(point, tmp_path):
    path = point.adapt(point.sample_tasks(1)[0], 1, 1).save(tmp_path / "policy")
    code = (
        "import sys, metarl; policy = metarl.load_policy(sys.argv[1]); policy.act([0.1, 0.2]); "
        "assert not {'torch', 'mujoco', 'pickle5'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_spaces_that_are_none(point):
    for document in (
        {"kind": "discrete", "n": 2, "start": 2**63 - 1},
        {"kind": "multidiscrete", "nvec": [2], "start": [2**63 - 1]},
        {"kind": "tuple", "spaces": [{"kind": "discrete", "n": 2, "start": None}]},
    ):
        refused("policy.json is damaged.*no space", from_json, document, "policy.json")


def test_spaces_come_back_from_json():
    for space in (SEEN, *ACTED.values(), Box(-np.inf, np.inf, (2,))):
        found = from_json(json.loads(json.dumps(as_json(space, acted=True), allow_nan=False)), "x")
        assert found == space


@pytest.mark.slow  # Stable-Baselines3 is slow to import
def test_sb3_acts_alike(point, runs, tmp_path):
    (task,) = point.sample_tasks(1)
    adapted = point.adapt(task, 2, 1)
    ppo = adapted.to_sb3(OneTask(point.base, task), n_steps=16)
    for obs in np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32):
        np.testing.assert_allclose(
            ppo.predict(obs, deterministic=True)[0], adapted.act(obs), atol=1e-5
        )
    refused("no MLP policy", runs["box", "rl2"].adapt(Robot(), 1).to_sb3, Robot())
    refused("the agent learned", adapted.to_sb3, gymnasium.make("CartPole-v1"))
