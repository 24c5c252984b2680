"""Pictures of the robots of MuJoCo: the robot is there, the task's pole, and its note."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from metarl.recording.headless import VARIABLE, works

POLES = {
    "ant-dir:2d": True,
    "ant-goal": True,
    "humanoid-dir": True,
    "walker-params": False,
    "reacher-goal": False,
}
TASKS = {
    "ant-dir:2d": {"angle": 0.0},
    "humanoid-dir": {"angle": 0.0},
    "ant-goal": {"goal": [1.0, 0]},
}
DRAW = """
import json, sys
import numpy as np
from metarl.envs import catalogue
from metarl.recording.episodes import Episode
from metarl.recording.scenes.choice import scene_of
from metarl.types import Workers

found = {}
for name, given in json.loads(sys.argv[1]).items():
    tasks = catalogue.make(name, 6)
    task = given or tasks.sample(1, np.random.default_rng(2))[0]
    env = tasks.open(1, 1, Workers(0))
    env.set_tasks([task])
    obs = [env.reset(np.array([[7]], np.uint64))[0, 0]]
    actions = np.full((4, tasks.spec.act_dim), 0.2, np.float32)
    obs += [env.step(action[None, None]).obs[0, 0] for action in actions]
    episode = Episode(task, "a task", 0, 7, np.array(obs), actions, np.zeros(4), 0.0, 0, True)
    scene = scene_of(tasks, 160)
    scene.check([task])
    views = list(scene.views(episode, [0, 4]))
    scene.close()
    image = views[1].image.astype(int)
    green = ((image[..., 1] - image[..., 0]) > 40) & ((image[..., 1] - image[..., 2]) > 15)
    coloured = np.ptp(image, axis=-1) > 40
    changed = int(np.abs(image - views[0].image).max())
    found[name] = [image.shape, int(green.sum()), int(coloured.sum()), changed, views[1].note]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_each_robot_is_drawn_with_what_its_task_asks_for():
    choice = next((one for one in ("egl", "osmesa") if works(one)), None)
    if choice is None:
        pytest.skip("MuJoCo cannot draw on this machine")
    done = subprocess.run(
        [sys.executable, "-c", DRAW, json.dumps({name: TASKS.get(name) for name in POLES})],
        env={**os.environ, VARIABLE: choice},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name, (shape, green, coloured, changed, note) in found.items():
        assert shape == [120, 160, 3]
        assert coloured > 30, f"no robot of {name}"
        assert changed > 30, f"{name} does not move"
        assert (green > 8) == POLES[name], f"the pole of {name}: {green} pixels"
        assert ("distance" in note) == name.endswith("-goal")
        assert ("mean speed" in note) != name.endswith("-goal")
