"""A drawer to pull out by its handle or to push in: drawer-open, drawer-close."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.shaping import hamacher, nearness, norm, tolerance

PULLED_AT, PUSHED_AT = np.array([0.0, -0.16, 0.0]), np.array([0.0, -0.16, 0.05])
"""The handle as the two classes observe it, as seen from the drawer, m."""
TRAVEL = np.array([0.0, 0.2, 0.0])
"""From drawer-open's goal back to where the handle starts, m."""
SCALE = np.array([3.0, 3.0, 1.0])
"""Weights of the axes in the hand's distance: over the handle first, then down to it."""
CLOSED = 0.05
"""Distance from the goal, m, that drawer-close rewards as reached. `_TARGET_RADIUS = 0.04` of the
reference's class is never read."""


class DrawerOpen(Rules):
    sensed = (*sensed("body", "drawer_link"), *sensed("body_quat", "drawer_link"))

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.body("drawer_link") + PULLED_AT, at.body_quat("drawer_link")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        handle, target = obs[:, 4:7], task.target_pos
        to_target = norm(handle - target)
        opened = tolerance(to_target, (0, 0.02), TRAVEL[1], "long_tail")
        apart = handle - obs[:, :3]
        margin = norm((target + TRAVEL - task.init_tcp) * SCALE)
        caged = tolerance(norm(apart * SCALE), (0, 0.01), margin, "long_tail")
        reward = 5 * (caged + opened)
        return Terms(reward, to_target <= 0.03, norm(apart) <= 0.03, caged, opened, to_target)


class DrawerClose(Rules):
    sensed = sensed("body", "drawer_link")

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return (at.body("drawer_link") + PUSHED_AT,)

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        obj, first, target = obs[:, 4:7], task.obj_init_pos, task.target_pos
        to_object, to_target = norm(obj - at.tcp), norm(obj - target)
        in_place = nearness(to_target, CLOSED, norm(first - target))
        reach = nearness(to_object, 0.005, norm(first - task.init_tcp), "gaussian")
        reach = hamacher(reach, np.clip(action[:, 3], 0, 1))
        solved = to_target <= CLOSED + 0.015
        reward = np.where(solved, 10.0, 10 * hamacher(reach, in_place))
        return Terms(reward, solved, to_object <= 0.01, reach, in_place, to_target)


DRAWER: dict[str, Rules] = {"drawer-open-v3": DrawerOpen(), "drawer-close-v3": DrawerClose()}
