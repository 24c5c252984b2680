"""Sweeping a block along the table: off its edge (sweep), into a hole (sweep-into)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.shaping import hamacher, norm, pinching, tolerance

RADIUS = 0.05
"""Distance from the goal, m, that counts as reached."""
BLOCK_RADIUS = 0.02
"""m."""


class Sweep(Rules):
    sensed = (*sensed("body", "obj"), *sensed("body_quat", "obj"))
    grip_thresh, xz_thresh = 0.03, 0.005

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.body("obj"), at.body_quat("obj")

    def target(self, obj: np.ndarray, task: Constants) -> np.ndarray:
        return task.target_pos

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        obj = obs[:, 4:7]
        target = self.target(obj, task)
        to_object, to_target = norm(obj - at.tcp), norm(obj - target)
        margin = norm(task.obj_init_pos - target)
        in_place = tolerance(to_target, (0, RADIUS), margin, "long_tail")
        grasped = pinching(
            at,
            task,
            obj,
            obj_radius=BLOCK_RADIUS,
            grip_thresh=self.grip_thresh,
            xz_thresh=self.xz_thresh,
        )
        reward = 2 * grasped + 6 * hamacher(grasped, in_place)
        reward = np.where(to_target < RADIUS, 10.0, reward)
        return Terms(reward, to_target <= RADIUS, to_object <= 0.03, grasped, in_place, to_target)


class SweepInto(Sweep):
    sensed = (*sensed("body", "obj"), *sensed("geom_frame", "objGeom"))
    grip_thresh, xz_thresh = 0.025, 0.01

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.body("obj"), at.geom_quat("objGeom")

    def target(self, obj: np.ndarray, task: Constants) -> np.ndarray:
        # At the block's own height: how deep it lies in the hole is left out.
        return np.concatenate([task.target_pos[:, :2], obj[:, 2:]], axis=1)


SWEEP: dict[str, Rules] = {"sweep-v3": Sweep(), "sweep-into-v3": SweepInto()}
