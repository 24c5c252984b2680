"""A coffee machine: its mug is pushed or pulled to a goal, its button pressed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.button import Button
from metarl.envs.metaworld.rules.shaping import caging, hamacher, norm, tolerance

RADIUS = 0.05
"""Scaled distance of the mug from its goal, m, within which its reward is full."""
SOLVED = 0.07
"""Distance of the mug from its goal, m, that counts as solved."""
SCALE = np.array([2.0, 2.0, 1.0])
"""Errors in x and y weigh more."""
UNTURNED = np.array([1.0, 0.0, 0.0, 0.0])
"""The button's orientation in observations, (w, x, y, z)."""


class Mug(Rules):
    """Pushing and pulling differ in where mug and goal are, not in their rules."""

    sensed = (*sensed("body", "obj"), *sensed("geom_frame", "mug"))

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.body("obj"), at.geom_quat("mug")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        mug, opening, target = obs[:, 4:7], obs[:, 3], task.target_pos
        error = mug - target
        scaled, to_mug = norm(error * SCALE), norm(mug - at.tcp)
        margin = norm((task.obj_init_pos - target) * SCALE)
        in_place = tolerance(scaled, (0, RADIUS), margin, "long_tail")
        grasped = caging(
            at,
            task,
            action,
            mug,
            obj_radius=0.02,
            pad_success_thresh=0.05,
            object_reach_radius=0.04,
            xz_thresh=0.05,
            desired_gripper_effort=0.7,
            density="medium",
        )
        held = (to_mug < 0.04) & (opening > 0)
        reward = hamacher(grasped, in_place) + np.where(held, 1 + 5 * in_place, 0.0)
        reward = np.where(scaled < RADIUS, 10.0, reward)
        to_target = norm(error)
        return Terms(reward, to_target <= SOLVED, to_mug <= 0.03, grasped, in_place, to_target)


class MachineButton(Button):
    sensed = sensed("site", "buttonStart")

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        button = at.site("buttonStart")
        return button, np.broadcast_to(UNTURNED, (len(button), 4))

    def travel(self, task: Constants) -> np.ndarray:
        return task.max_dist


COFFEE: dict[str, Rules] = {
    "coffee-button-v3": MachineButton(solved=0.02, close=0.05, reach=0.05, approach=2),
    "coffee-pull-v3": Mug(),
    "coffee-push-v3": Mug(),
}
