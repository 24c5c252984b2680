"""Pressing a button, from the front or from above: button-press and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.shaping import hamacher, norm, tolerance

FRONT = (0.0, -0.193, 0.0)
ABOVE = (0.0, 0.0, 0.193)
"""Positions of a button's face, from its body's frame, m."""
Y, Z = 1, 2


@dataclass(frozen=True, kw_only=True)
class Button(Rules):
    """Approach the button, then press it."""

    face: tuple[float, float, float] = FRONT
    axis: int = Y
    """The coordinate that pressing changes."""
    solved: float
    """Distance left to press, m, up to which it counts as solved."""
    close: float
    """Distance from the button, m, where the reward of approach is full."""
    reach: float
    """Distance from the button, m, from where pressing is rewarded."""
    approach: float
    """Highest reward of the approach; pressing gets what is left of 10."""
    closed: bool = False
    """Whether the approach wants a closed gripper; else an open one."""

    sensed = (*sensed("body", "button"), *sensed("body_quat", "button"))

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.body("button") + self.face, at.body_quat("button")

    def travel(self, task: Constants) -> np.ndarray:
        """How far the button can be pressed, m, [N]."""
        return task.obj_to_target_init

    def reward(
        self, opening: np.ndarray, to_button: np.ndarray, near: np.ndarray, pressed: np.ndarray
    ) -> np.ndarray:
        approached = hamacher(1 - opening if self.closed else opening, near)
        pressing = np.where(to_button <= self.reach, (10 - self.approach) * pressed, 0.0)
        return self.approach * approached + pressing

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        button = obs[:, 4:7]
        to_button = norm(button - at.tcp)
        left = np.abs(task.target_pos[:, self.axis] - button[:, self.axis])
        # The margin moves with the button.
        margin = norm(button - task.init_tcp)
        near = tolerance(to_button, (0, self.close), margin, "long_tail")
        pressed = tolerance(left, (0, 0.005), self.travel(task), "long_tail")
        reward = self.reward(obs[:, 3], to_button, near, pressed)
        return Terms(reward, left <= self.solved, to_button <= 0.05, near, pressed, left)


class BehindWall(Button):
    """Out of reach a closed gripper is rewarded, in reach an open one."""

    def reward(
        self, opening: np.ndarray, to_button: np.ndarray, near: np.ndarray, pressed: np.ndarray
    ) -> np.ndarray:
        approaching = self.approach * hamacher((1 - opening) / 2, near)
        pressing = 2 + 2 * (1 + opening) + 4 * pressed * pressed
        return np.where(to_button > self.reach, approaching, pressing)


def _from_above(closed: bool) -> Button:
    return Button(
        face=ABOVE, axis=Z, solved=0.024, close=0.01, reach=0.03, approach=5, closed=closed
    )


BUTTON: dict[str, Rules] = {
    "button-press-topdown-v3": _from_above(closed=True),
    "button-press-topdown-wall-v3": _from_above(closed=False),
    "button-press-v3": Button(solved=0.02, close=0.05, reach=0.05, approach=2),
    "button-press-wall-v3": BehindWall(solved=0.03, close=0.01, reach=0.07, approach=2),
}
