"""Policies that see images: adapted, saved, loaded without torch's route, and damaged."""

from __future__ import annotations

import json
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from saved_runs import saved

import metarl
from metarl.config.settings import EnvConfig
from metarl.deployment import folder
from metarl.deployment.spaces import as_json, from_json
from metarl.envs.gym.images import image_of
from metarl.envs.gym.tasks import class_tasks

HIGH = np.broadcast_to(np.array([10, 5, 2], np.uint8), (5, 6, 3))
SEEN = Dict({"compass": Discrete(4), "view": Box(np.zeros_like(HIGH), HIGH, dtype=np.uint8)})


class Walker(gymnasium.Env):
    observation_space, action_space = SEEN, Discrete(3)

    def __init__(self, side: int = 0):
        if side:
            self.observation_space = Dict(
                {"compass": Discrete(4), "view": Box(0, 255, (side, side, 3), np.uint8)}
            )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.see(), {}

    def step(self, action):
        return self.see(), float(action), bool(self.np_random.random() < 0.3), False, {}

    def see(self):
        seen: Any = self.observation_space
        shape = seen["view"].shape
        view = self.np_random.integers(0, 3, shape).astype(np.uint8)
        return {"compass": np.int64(self.np_random.integers(4)), "view": view}


class Own:
    horizon = 4

    def sample(self, num, rng, split):
        return [{"x": 1.0}] * num

    def make(self, task):
        return Walker()


AGENTS = ["maml-trpo", "reptile-ppo", "cavia-ppo", "rl2", "rl2-sac", "varibad"]


@pytest.fixture(scope="module", params=AGENTS)
def agent(request, tmp_path_factory):
    tasks = class_tasks(Own(), "my_module:tasks")
    path = saved(
        tmp_path_factory.mktemp("runs") / "run",
        request.param,
        tasks,
        EnvConfig("my_module:tasks", 4),
        channels=(4, 5),
    )
    return metarl.load(path, tasks=tasks)


def test_a_saved_policy_acts_as_the_adapted_one(agent, tmp_path):
    adapted = agent.adapt(Walker(), episodes=2, steps=1)
    loaded = metarl.load_policy(adapted.save(tmp_path / "policy"))
    outputs = []
    for policy in (adapted, loaded):
        env = Walker()
        obs, _ = env.reset(seed=3)
        outputs.append([])
        for _ in range(9):
            action = policy.act(obs)
            outputs[-1].append(action)
            obs, reward, ended, _, _ = env.step(action)
            policy.observe(reward, ended)
            vector = policy.vector(obs)
            assert vector.min() >= 0.0
            assert vector.max() == 1.0
    assert outputs[0] == outputs[1]


def test_images_of_another_size_are_refused(agent):
    with pytest.raises(metarl.UserError, match="numbers"):
        agent.adapt(Walker(side=7), episodes=1, steps=1)


def test_damaged_filters_are_refused(agent, tmp_path):
    path = agent.adapt(Walker(), episodes=2, steps=1).save(tmp_path / "policy")
    place = path / folder.DOCUMENT
    document = json.loads(place.read_text())
    names = [name for name in document if name.endswith("filters")]
    assert names == ["filters", "encoder.filters"][: 1 + (agent.facts["agent"] == "varibad")]
    for name in names:
        for filters in ([[9, 1], [3, 1]], [[3, 0], [3, 1]], [[3, 1]], "many", []):
            place.write_text(json.dumps({**document, name: filters}))
            with pytest.raises(metarl.UserError):
                metarl.load_policy(path)


def test_the_bounds_of_an_image_are_kept():
    space = from_json(json.loads(json.dumps(as_json(SEEN, acted=False))), "x")
    assert space == SEEN
    grey = Box(0, 255, (9, 9), np.uint8)
    document = as_json(grey, acted=False)
    assert document["low"] == [0.0]
    assert from_json(document, "x") == grey


def test_an_image_without_bounds_is_of_an_earlier_metarl():
    document = {"kind": "box", "shape": [5, 6, 3], "dtype": "uint8"}
    with pytest.raises(metarl.UserError, match=r"earlier metarl.*\n.*anew"):
        from_json(document, "x")
    document = {"kind": "box", "shape": [5, 6, 3], "dtype": "float32"}
    assert image_of(from_json(document, "x")) is None
