"""A window to slide by its handle: window-open, window-close."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.shaping import hamacher, nearness, norm

RADIUS = 0.05
"""Distance of the handle from the goal along x, m, that counts as reached."""
HANDLE_RADIUS = 0.02
"""Distance of the fingers from the handle, m, that counts as there."""


class Window(Rules):
    def __init__(self, handle: str, start: str, reach_sigmoid: str):
        """`handle` is a site, `start` the task's constant that holds where it slides from."""
        self.handle, self.start, self.reach_sigmoid = handle, start, reach_sigmoid
        self.sensed = sensed("site", handle)

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return (at.site(self.handle),)

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        handle, target = obs[:, 4:7], task.target_pos[:, 0]
        to_target = np.abs(handle[:, 0] - target)
        in_place = nearness(to_target, RADIUS, np.abs(getattr(task, self.start)[:, 0] - target))
        to_object = norm(handle - at.tcp)
        first = norm(task.window_handle_pos_init - task.init_tcp)
        reach = nearness(to_object, HANDLE_RADIUS, first, self.reach_sigmoid)
        reward = 10 * hamacher(reach, in_place)
        return Terms(reward, to_target <= RADIUS, to_object <= 0.05, reach, in_place, to_target)


WINDOW: dict[str, Rules] = {
    "window-open-v3": Window("handleOpenStart", "obj_init_pos", "long_tail"),
    "window-close-v3": Window("handleCloseStart", "window_handle_pos_init", "gaussian"),
}
