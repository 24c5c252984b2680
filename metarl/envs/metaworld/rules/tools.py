"""Lifting a tool by its handle to use it: hammer, assembly (a nut onto a peg), disassemble."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.shaping import caging, norm, tolerance

LIFTED = 0.02
"""Height of a tool's head, m, above which it counts as lifted."""


class Tool(Rules):
    upright: np.ndarray
    """The orientation that the tool should keep, (w, x, y, z)."""
    handle: float
    """Length of the handle, m."""
    density: str = "high"

    @abstractmethod
    def place(
        self, obs: np.ndarray, at: Readings, task: Constants
    ) -> tuple[np.ndarray, np.ndarray]:
        """How well the tool is used, in [0, 1], and whether the task is solved. [N]"""

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        hand_x, tool = obs[:, 0], obs[:, 4:7].copy()
        # The handle may be held anywhere along x; `caging` knows nothing but spheres.
        beside = np.abs(tool[:, 0] - hand_x) < self.handle / 2
        tool[:, 0] = np.where(beside, hand_x, tool[:, 0])
        grasped = caging(
            at,
            task,
            action,
            tool,
            obj_radius=0.015,
            pad_success_thresh=0.02,
            xz_thresh=0.01,
            density=self.density,
        )
        kept = np.maximum(1 - norm(obs[:, 7:11] - self.upright) / 0.4, 0.0)
        in_place, solved = self.place(obs, at, task)
        reward = (2 * grasped + 6 * in_place) * kept
        reward = np.where(self.rewarded(solved, reward), 10.0, reward)
        return Terms(reward, solved, kept, grasped, in_place, np.zeros(len(obs)))

    def rewarded(self, solved: np.ndarray, reward: np.ndarray) -> np.ndarray:
        """Returns whether the full reward is given, [N]."""
        return solved


class Hammer(Tool):
    upright = np.array([1.0, 0.0, 0.0, 0.0])
    handle = 0.14
    head = np.array([0.16, 0.06, 0.0])
    """The hammer's head, as seen from its handle, m."""
    driven = 0.09
    """How deep the nail is to be driven, m."""
    sensed = (
        *sensed("body", "hammer", "nail_link"),
        *sensed("body_quat", "hammer", "nail_link"),
        *sensed("joint", "NailSlideJoint"),
    )

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return (
            at.body("hammer"),
            at.body_quat("hammer"),
            at.body("nail_link"),
            at.body_quat("nail_link"),
        )

    def place(
        self, obs: np.ndarray, at: Readings, task: Constants
    ) -> tuple[np.ndarray, np.ndarray]:
        in_place = _carried(obs[:, 4:7] + self.head, task.target_pos)
        return in_place, at.joint("NailSlideJoint") > self.driven

    def rewarded(self, solved: np.ndarray, reward: np.ndarray) -> np.ndarray:
        # The nail can be driven without the hammer.
        return solved & (reward > 5)


class Disassemble(Tool):
    upright = np.array([0.707, 0.0, 0.0, 0.707])
    handle = 0.02
    sensed = (*sensed("site", "RoundNut", "RoundNut-8"), *sensed("body_quat", "RoundNut"))
    above = np.array([0.0, 0.0, 0.1])
    """The place to lift the nut to, as seen from the height that counts as solved, m."""

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.site("RoundNut-8"), at.body_quat("RoundNut")

    def place(
        self, obs: np.ndarray, at: Readings, task: Constants
    ) -> tuple[np.ndarray, np.ndarray]:
        in_place = _carried(at.site("RoundNut"), task.target_pos + self.above)
        return in_place, obs[:, 6] > task.target_pos[:, 2]


class Assembly(Disassemble):
    density = "medium"
    scale = np.array([1.0, 1.0, 3.0])
    """Weights of the axes in the nut's distance from the funnel."""

    def place(
        self, obs: np.ndarray, at: Readings, task: Constants
    ) -> tuple[np.ndarray, np.ndarray]:
        """The nut is led down a funnel around the peg, whose neck is wider once it is hooked."""
        nut = at.site("RoundNut")
        error = task.target_pos - nut
        aside = norm(error[:, :2])
        hooked = (aside < 0.02) & (error[:, 2] > 0)
        neck = np.where(hooked, 0.02, 0.01)
        outside = aside > neck
        height = 0.02 * np.log(np.where(outside, aside - neck, 1.0)) + 0.2
        error[:, 2] = np.where(outside, height, 0.0) - nut[:, 2]
        lifted = (nut[:, 2] > LIFTED) | (aside < neck)
        near = tolerance(norm(error * self.scale), (0, 0.02), 0.4, "long_tail")
        return 0.1 * lifted + 0.9 * near, hooked


def _carried(head: np.ndarray, target: np.ndarray) -> np.ndarray:
    """A little for lifting a tool's head, the rest for bringing it to the target, [N]."""
    near = tolerance(norm(target - head), (0, 0.02), 0.2, "long_tail")
    return 0.1 * (head[:, 2] > LIFTED) + 0.9 * near


TOOLS: dict[str, Rules] = {
    "hammer-v3": Hammer(),
    "assembly-v3": Assembly(),
    "disassemble-v3": Disassemble(),
}
