"""Moving a thermos with a stick: away (stick-push), or by its handle (stick-pull)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.shaping import caging, hamacher, norm, tolerance

SOLVED = 0.12
"""Distance of the thermos from the goal, m, that counts as reached."""
NEAR = 0.03
"""Distance between gripper and stick, m, that counts as near."""


class StickPush(Rules):
    # The stick's geom is turned as the body is whose frame the reference reads.
    sensed = (
        *sensed("body", "stick"),
        *sensed("geom_frame", "objGeom"),
        *sensed("site", "insertion"),
    )
    grip = np.array([0.015, 0.0, 0.0])
    """The place to hold the stick, as seen from its middle, m."""
    thermos = np.array([0.0, 0.09, 0.0])
    """The thermos as seen from its handle, m."""

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.body("stick"), at.geom_quat("objGeom"), at.site("insertion") + self.thermos

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        stick, thermos, target = obs[:, 4:7] + self.grip, obs[:, 11:14], task.target_pos
        to_stick, to_target = norm(stick - at.tcp), norm(thermos - target)
        margin = norm(task.stick_init_pos - target) - SOLVED
        stick_in_place = tolerance(norm(stick - target), (0, SOLVED), margin, "long_tail")
        margin = norm(task.obj_init_pos - target) - SOLVED
        thermos_in_place = tolerance(to_target, (0, SOLVED), margin, "long_tail")
        # The stick is what is to be grasped, so its first place counts, not the thermos'.
        of_stick = Constants({"obj_init_pos": task.stick_init_pos, "init_tcp": task.init_tcp})
        grasped = caging(
            at,
            of_stick,
            action,
            stick,
            obj_radius=0.04,
            pad_success_thresh=0.05,
            xz_thresh=0.01,
            density="high",
        )
        lifted = (obs[:, 3] > 0) & (stick[:, 2] - 0.01 > task.stick_init_pos[:, 2])
        held, reached = lifted & (to_stick < 0.02), to_target <= SOLVED
        pushed = np.where(reached, 10.0, 2 + 5 * stick_in_place + 3 * thermos_in_place)
        reward = np.where(held, pushed, grasped)
        grasped = np.where(held, 1.0, grasped)
        success = reached & lifted
        rows = np.flatnonzero(success)
        success[rows] = at.touching("objGeom", rows)
        return Terms(reward, success, to_stick <= NEAR, grasped, stick_in_place, to_target)


class StickPull(Rules):
    sensed = (*StickPush.sensed, *sensed("site", "stick_end"))
    radius = 0.05
    """Distances, m, that earn the full reward."""
    thermos = np.array([0.05, 0.0, 0.0])
    """The place that the stick is to approach, as seen from the handle, m."""
    scale = np.array([1.0, 1.0, 2.0])
    """Weights of the axes in the stick's distance from it."""

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.body("stick"), at.geom_quat("objGeom"), at.site("insertion")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        stick, handle, target = obs[:, 4:7], obs[:, 11:14], task.target_pos
        thermos, bounds = handle + self.thermos, (0, self.radius)
        to_stick, to_target = norm(stick - at.tcp), norm(handle - target)

        margin = norm((task.stick_init_pos - task.obj_init_pos - self.thermos) * self.scale)
        distance = norm((stick - thermos) * self.scale)
        in_place = tolerance(distance, bounds, margin, "long_tail")
        margin = norm(task.stick_init_pos - target)
        stick_pulled = tolerance(norm(stick - target), bounds, margin, "long_tail")
        margin = norm(task.obj_init_pos - target)
        thermos_pulled = tolerance(norm(thermos - target), bounds, margin, "long_tail")
        # As the reference does, this looks for the stick's first place at the thermos'.
        grasped = caging(
            at,
            task,
            action,
            stick,
            obj_radius=0.014,
            pad_success_thresh=0.05,
            xz_thresh=0.01,
            density="high",
        )
        lifted = stick[:, 2] - 0.01 > task.stick_init_pos[:, 2]
        held = (to_stick < 0.02) & (obs[:, 3] > 0) & lifted
        grasped = np.where(held, 1.0, grasped)
        inserted, reached = _inserted(at.site("stick_end"), handle), to_target <= SOLVED
        ahead = np.where(inserted, 5 + 2 * stick_pulled + thermos_pulled, 5 * in_place)
        reward = hamacher(grasped, in_place) + np.where(held, 1 + ahead, 0.0)
        reward = np.where(held & inserted & reached, 10.0, reward)
        return Terms(reward, reached & inserted, to_stick <= NEAR, grasped, in_place, to_target)


def _inserted(end: np.ndarray, handle: np.ndarray) -> np.ndarray:
    """Whether the stick's end is through the handle, [N]."""
    beyond = end - handle
    aside = np.abs(beyond)
    return (beyond[:, 0] >= 0) & (aside[:, 1] <= 0.040) & (aside[:, 2] <= 0.060)


STICK: dict[str, Rules] = {"stick-push-v3": StickPush(), "stick-pull-v3": StickPull()}
