"""A peg that belongs in the hole of a box: peg-insert-side, peg-unplug-side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.shaping import caging, hamacher, norm, tolerance

SOLVED = 0.07
"""Distance of the peg from the goal, m, that counts as success."""
NEAR = 0.03
"""Distance between gripper and peg, m, that counts as near."""


class PegInsert(Rules):
    scale = np.array([1.0, 2.0, 2.0])
    """Weights of the axes in the distance of the peg's head from the goal."""
    corners = tuple(
        (f"bottom_right_corner_collision_box_{box}", f"top_left_corner_collision_box_{box}")
        for box in (1, 2)
    )
    """Opposite corners of the box's parts below and above the hole."""
    sensed = (
        *sensed("site", "pegGrasp", "pegHead", *corners[0], *corners[1]),
        *sensed("site_frame", "pegGrasp"),
    )

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.site("pegGrasp"), at.site_quat("pegGrasp")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        obj, head, target = obs[:, 4:7], at.site("pegHead"), task.target_pos
        to_object, to_target = norm(obj - at.tcp), norm((head - target) * self.scale)
        margin = norm((task.peg_head_pos_init - target) * self.scale)
        in_place = tolerance(to_target, (0, SOLVED), margin, "long_tail")
        below, above = (
            _outside_prism(head, at.site(zero), at.site(one)) for zero, one in self.corners
        )
        in_place = hamacher(in_place, hamacher(above, below))
        grasped = caging(
            at,
            task,
            action,
            obj,
            obj_radius=0.0075,
            pad_success_thresh=0.03,
            xz_thresh=0.005,
            density="high",
        )
        lifted = obj[:, 2] - 0.01 > task.obj_init_pos[:, 2]
        held = (to_object < 0.08) & (obs[:, 3] > 0) & lifted
        grasped = np.where(held, 1.0, grasped)
        inserted = to_target <= SOLVED
        reward = hamacher(grasped, in_place) + np.where(held, 1 + 5 * in_place, 0.0)
        reward = np.where(inserted, 10.0, reward)
        return Terms(reward, inserted, to_object <= NEAR, grasped, in_place, to_target)


class PegUnplug(Rules):
    sensed = (*sensed("site", "pegEnd"), *sensed("body_quat", "plug1"))
    radius = 0.05
    """Distance from the goal, m, that earns the full reward."""

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.site("pegEnd"), at.body_quat("plug1")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        obj, init, target = obs[:, 4:7], task.obj_init_pos, task.target_pos
        to_object, to_target = norm(obj - at.tcp), norm(obj - target)
        in_place = tolerance(to_target, (0, self.radius), norm(init - target), "long_tail")
        grasped = caging(
            at,
            task,
            action,
            obj,
            obj_radius=0.025,
            pad_success_thresh=0.05,
            xz_thresh=0.005,
            desired_gripper_effort=0.8,
            density="high",
        )
        pulled = (obs[:, 3] > 0.5) & (obj[:, 0] - init[:, 0] > 0.015) & (to_object < 0.035)
        reward = 2 * grasped + np.where(pulled, 1 + 5 * in_place, 0.0)
        reward = np.where(to_target <= self.radius, 10.0, reward)
        return Terms(reward, to_target <= SOLVED, to_object <= NEAR, grasped, in_place, to_target)


def _outside_prism(point: np.ndarray, zero: np.ndarray, one: np.ndarray) -> np.ndarray:
    """1 outside the box between two corners, [N]; in it from 0 at one to 1 at the other.

    Row by row it is `metaworld.utils.reward_utils.rect_prism_tolerance`.
    """
    along = (point - zero) / (one - zero)
    inside = ((along >= 0) & (along <= 1)).all(axis=1)
    return np.where(inside, along.prod(axis=1), 1.0)


PEG: dict[str, Rules] = {"peg-insert-side-v3": PegInsert(), "peg-unplug-side-v3": PegUnplug()}
