"""Pressing a handle down and pulling it up, on a box that faces the arm or stands sideways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.shaping import caging, hamacher, norm, tolerance

PRESS_RADIUS = 0.02
"""Distance left to press, m, up to which it counts as solved."""
HANDLE_RADIUS = 0.02
"""Distance of the gripper from the handle, m, that counts as there."""
PULL_RADIUS = 0.05
"""Distance of the handle from its goal, m, within which pulling's reward is full."""


class Handle(Rules):
    """A handle is observed by a site on it, its orientation as zeros."""

    def __init__(self, site: str):
        self.site, self.sensed = site, sensed("site", site)

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        handle = at.site(self.site)
        return handle, np.zeros((len(handle), 4))


class Press(Handle):
    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        handle, start, target = obs[:, 4:7], task.handle_init_pos, task.target_pos
        to_target, to_handle = np.abs(handle[:, 2] - target[:, 2]), norm(handle - at.tcp)
        margin = np.abs(np.abs(start[:, 2] - target[:, 2]) - PRESS_RADIUS)
        in_place = tolerance(to_target, (0, PRESS_RADIUS), margin, "long_tail")
        margin = np.abs(norm(start - task.init_tcp) - HANDLE_RADIUS)
        near = tolerance(to_handle, (0, HANDLE_RADIUS), margin, "long_tail")
        solved = to_target <= PRESS_RADIUS
        reward = 10 * np.where(solved, 1.0, hamacher(near, in_place))
        return Terms(reward, solved, to_handle <= 0.05, near, in_place, to_target)


class Pull(Handle):
    """The distance from the goal is that in height.

    Rewards the grip once the handle's y (sic) is above the z of its start, which is always.
    """

    error, lifted = slice(2, 3), 1
    """Coordinates of the distance from the goal, and the one that tells the lift."""
    obj_radius, pad_success_thresh = 0.022, 0.05
    solved = PULL_RADIUS

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        handle, opening, start = obs[:, 4:7], obs[:, 3], task.obj_init_pos
        target = task.target_pos[:, self.error]
        to_target, to_handle = norm(handle[:, self.error] - target), norm(handle - at.tcp)
        margin = norm(start[:, self.error] - target)
        in_place = tolerance(to_target, (0, PULL_RADIUS), margin, "long_tail")
        grasped = caging(
            at,
            task,
            action,
            handle,
            obj_radius=self.obj_radius,
            pad_success_thresh=self.pad_success_thresh,
            xz_thresh=0.01,
            density="high",
        )
        lifted = handle[:, self.lifted] - 0.01 > start[:, 2]
        held = (to_handle < 0.035) & (opening > 0) & lifted
        reward = hamacher(grasped, in_place) + np.where(held, 1 + 5 * in_place, 0.0)
        reward = np.where(to_target < PULL_RADIUS, 10.0, reward)
        solved = to_target <= self.solved
        return Terms(reward, solved, to_handle <= 0.05, grasped, in_place, to_target)


class PullSide(Pull):
    """The distance from the goal is that in space."""

    error, lifted = slice(0, 3), 2
    obj_radius, pad_success_thresh = 0.032, 0.06
    solved = 0.08


HANDLE: dict[str, Rules] = {
    "handle-press-v3": Press("handleStart"),
    "handle-press-side-v3": Press("handleStart"),
    "handle-pull-v3": Pull("handleRight"),
    "handle-pull-side-v3": PullSide("handleCenter"),
}
