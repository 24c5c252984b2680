"""A faucet's handle to turn to either side: faucet-open, faucet-close."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.shaping import nearness, norm

RADIUS = 0.07
"""Distance from the goal, m, that counts as reached."""
REACH_RADIUS = 0.01
"""Distance of the fingers from the handle, m, that counts as there."""
HANDLE = np.array([0.0, 0.0, -0.01])
"""The handle as observed, as seen from its site, m."""


class Faucet(Rules):
    def __init__(self, handle: str, offset: Sequence[float]):
        """`handle` is a site, `offset` (m) leads from what is observed to what is to be moved."""
        self.handle, self.offset = handle, np.array(offset)
        self.sensed = (*sensed("site", handle), *sensed("body_quat", "faucetBase"))

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.site(self.handle) + HANDLE, at.body_quat("faucetBase")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        obj, first, target = obs[:, 4:7] + self.offset, task.obj_init_pos, task.target_pos
        to_object, to_target = norm(obj - at.tcp), norm(obj - target)
        in_place = nearness(to_target, RADIUS, norm(first - target))
        reach = nearness(to_object, REACH_RADIUS, norm(first - task.init_tcp), "gaussian")
        solved = to_target <= RADIUS
        reward = np.where(solved, 10.0, 4 * reach + 6 * in_place)
        return Terms(reward, solved, to_object <= 0.01, reach, in_place, to_target)


FAUCET: dict[str, Rules] = {
    "faucet-open-v3": Faucet("handleStartOpen", (-0.04, 0.0, 0.03)),
    "faucet-close-v3": Faucet("handleStartClose", (0.0, 0.0, 0.0)),
}
