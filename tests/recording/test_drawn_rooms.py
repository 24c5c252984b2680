"""Drawings of rooms say what is in the episode."""

from __future__ import annotations

import numpy as np
import pytest

from metarl.envs import catalogue
from metarl.envs.arrays.grid_optima import Searcher, bayes_optimum
from metarl.envs.arrays.memory_optima import KeyBearer, MazeWalker
from metarl.envs.arrays.point_optima import Steersman, Sweeper
from metarl.recording.episodes import Episode
from metarl.recording.scenes.choice import scene_of
from metarl.types import Workers

NOTES = {
    "sparse-point": (Sweeper, {"angle": 0.5}, ["distance 1.00", "distance 0.00"]),
    "wind": (Steersman, {"wind": [0.02, -0.03]}, ["distance 1.00", "distance 0.00"]),
    "grid-navigation": (
        lambda: Searcher(bayes_optimum(1)),
        {"goal": [0, 2]},
        ["has not seen the goal", "on the goal"],
    ),
    "t-maze:passive": (lambda: MazeWalker(0), {"arm": -1}, ["sees the cue", "in the right arm"]),
    "t-maze:active": (
        lambda: MazeWalker(1),
        {"arm": 1},
        ["50 steps to the end", "in the right arm"],
    ),
    "key-to-door": (KeyBearer, {"colour": 1}, ["looks for the key", "opened the door"]),
}


def played(distribution, policy, task) -> Episode:
    env = distribution.open(1, 1, Workers(0))
    env.set_tasks([task])
    obs, actions, rewards, solved = [env.reset(np.full((1, 1), 3, np.uint64))], [], [], 0
    policy.begin(obs[0])
    for step in range(1, distribution.spec.horizon + 1):
        actions.append(policy.act())
        found = env.step(actions[-1])
        policy.see(found)
        obs.append(found.obs)
        rewards.append(found.rewards[0, 0])
        solved = solved or step * bool(found.success[0, 0])
    seen, done = (np.array(x)[:, 0, 0] for x in (obs, actions))
    paid = np.array(rewards)
    return Episode(task, "a task", 0, 3, seen, done, paid, float(paid.sum()), solved, True)


@pytest.mark.parametrize("name", NOTES)
def test_a_scene_draws_a_solved_episode(name):
    policy, task, notes = NOTES[name]
    distribution = catalogue.make(name, catalogue.default_horizon(name))
    episode, scene = played(distribution, policy(), task), scene_of(distribution, 120)
    scene.check([task])
    scene.prepare([episode])
    first, last = scene.views(episode, [0, episode.length])
    assert [first.note, last.note] == notes
    assert first.image.shape == (round(120 * scene.aspect), 120, 3)
    assert (first.image != last.image).any()
