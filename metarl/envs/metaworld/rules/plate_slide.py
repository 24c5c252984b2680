"""Sliding a plate into a cabinet or out of it, forwards and sideways: plate-slide and its kin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.shaping import hamacher, norm, tolerance

RADIUS = 0.05
"""Distance of plate from goal and of gripper from plate, m, within which their terms are full."""
SOLVED = 0.07
"""Distance of the plate from its goal, m, that counts as solved."""
TOUCHING = 0.07
"""Distance of the gripper from the plate, m, that counts as touching it."""
LOW = 0.03
"""Height of the gripper, m, from which it can drag the plate."""


class Slide(Rules):
    sensed = (*sensed("geom", "puck"), *sensed("geom_frame", "puck"))
    inset = 0.0
    """Length that the margins leave out, m."""

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.geom("puck"), at.geom_quat("puck")

    def reward(
        self, tcp: np.ndarray, to_plate: np.ndarray, near: np.ndarray, in_place: np.ndarray
    ) -> np.ndarray:
        return 8 * hamacher(near, in_place)

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        plate, tcp, start, target = obs[:, 4:7], at.tcp, task.obj_init_pos, task.target_pos
        to_target, to_plate = norm(plate - target), norm(tcp - plate)
        margin = norm(start - target) - self.inset
        in_place = tolerance(to_target, (0, RADIUS), margin, "long_tail")
        margin = norm(task.init_tcp - start) - self.inset
        near = tolerance(to_plate, (0, RADIUS), margin, "long_tail")
        reward = self.reward(tcp, to_plate, near, in_place)
        reward = np.where(to_target < RADIUS, 10.0, reward)
        return Terms(reward, to_target <= SOLVED, to_plate <= 0.03, near, in_place, to_target)


class Drag(Slide):
    """The goal counts only once the gripper is down at the plate."""

    inset = RADIUS

    def reward(
        self, tcp: np.ndarray, to_plate: np.ndarray, near: np.ndarray, in_place: np.ndarray
    ) -> np.ndarray:
        touching = (tcp[:, 2] <= LOW) & (to_plate < TOUCHING)
        return np.where(touching, 2 + 7 * in_place, 1.5 * near)


PLATE_SLIDE: dict[str, Rules] = {
    "plate-slide-v3": Slide(),
    "plate-slide-side-v3": Drag(),
    "plate-slide-back-v3": Drag(),
    "plate-slide-back-side-v3": Drag(),
}
