"""Moving the hand itself to a goal in the air: reach, reach-wall."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.shaping import norm, tolerance

RADIUS = 0.05
"""Distance from the goal, m, that counts as reached."""


class Reach(Rules):
    sensed = (*sensed("body", "obj"), *sensed("geom_frame", "objGeom"))

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.body("obj"), at.geom_quat("objGeom")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        distance = norm(at.tcp - task.target_pos)
        margin = norm(task.hand_init_pos - task.target_pos)
        in_place = tolerance(distance, (0, RADIUS), margin, "long_tail")
        reached = distance <= RADIUS
        return Terms(10 * in_place, reached, distance, distance, in_place, distance)


class ReachWall(Reach):
    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        none = np.zeros(len(obs))
        return super().judge(obs, action, at, task)._replace(near_object=none, grasp_reward=none)


REACH: dict[str, Rules] = {"reach-v3": Reach(), "reach-wall-v3": ReachWall()}
