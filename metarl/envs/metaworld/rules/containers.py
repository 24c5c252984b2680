"""Things that go into or out of a container whose edges the hand is to keep above: bin-picking,
pick-out-of-hole, box-close."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.shaping import above, caging, funnel, hamacher, norm, tolerance

RADIUS = 0.05
"""Distance from the goal, m, that earns the full reward."""
LIFTED = 0.02
"""Height above its first place, m, at which an object counts as lifted."""


class BinPicking(Rules):
    sensed = (*sensed("body", "obj", "bin_goal"), *sensed("body_quat", "obj"))

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.body("obj"), at.body_quat("obj")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        hand, obj, init, target = obs[:, :3], obs[:, 4:7], task.obj_init_pos, at.body("bin_goal")
        to_target = norm(obj - target)
        # Of the first step: where the object is put into a bin's wall, that pushes it out.
        margin = norm(task.first_obs[:, 4:7] - target)
        in_place = tolerance(to_target, (0, RADIUS), margin, "long_tail")
        over_bins = (norm(hand[:, :2] - bin_centre[:, :2]) for bin_centre in (init, target))
        floor = np.minimum(*(funnel(far, 0.03, 0.02, 0.2) for far in over_bins))
        above_floor = above(hand, floor, 0.05)
        grasped = caging(
            at,
            task,
            action,
            obj,
            obj_radius=0.015,
            pad_success_thresh=0.05,
            xz_thresh=0.01,
            desired_gripper_effort=0.7,
            density="high",
        )
        near = norm(obj - hand) < 0.04
        held = near & (obj[:, 2] - LIFTED > init[:, 2]) & (obs[:, 3] >= 0.43)
        carried = 1 + 5 * hamacher(above_floor, in_place)
        reward = hamacher(grasped, in_place) + np.where(held, carried, 0.0)
        reward = np.where(to_target < RADIUS, 10.0, reward)
        return Terms(reward, to_target <= RADIUS, near, grasped, in_place, to_target)


class PickOutOfHole(Rules):
    sensed = (*sensed("body", "obj"), *sensed("body_quat", "obj"))
    solved = 0.07
    """Distance from the goal, m, that counts as success."""

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.body("obj"), at.body_quat("obj")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        obj, init, target, tcp = obs[:, 4:7], task.obj_init_pos, task.target_pos, at.tcp
        to_object, to_target = norm(obj - tcp), norm(obj - target)
        # The full reward begins at RADIUS, before `in_place` is 1.
        in_place = tolerance(to_target, (0, 0.02), norm(init - target), "long_tail")
        floor = funnel(norm(tcp[:, :2] - init[:, :2]), 0.03, 0.015, 0.15)
        above_floor = above(tcp, floor, 0.02)
        grasped = caging(
            at,
            task,
            action,
            obj,
            obj_radius=0.015,
            pad_success_thresh=0.02,
            xz_thresh=0.03,
            desired_gripper_effort=0.1,
            density="high",
        )
        lifted = obj[:, 2] - LIFTED > init[:, 2]
        held = (to_object < 0.04) & lifted & (obs[:, 3] >= 0.33)
        carried = 1 + 5 * hamacher(in_place, above_floor)
        reward = hamacher(grasped, in_place) + np.where(held, carried, 0.0)
        reward = np.where(to_target < RADIUS, 10.0, reward)
        solved = to_target <= self.solved
        return Terms(reward, solved, to_object <= 0.03, grasped, in_place, to_target)


class BoxClose(Rules):
    sensed = (*sensed("body", "top_link"), *sensed("body_quat", "top_link"))
    solved = 0.08
    """Distance of the lid from the box, m, that counts as closed."""
    handle = np.array([0.0, 0.0, 0.02])
    """The lid's handle as seen from the lid, m."""
    upright = np.array([0.707, 0.0, 0.0, 0.707])
    """The lid's orientation when it fits the box."""

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.body("top_link"), at.body_quat("top_link")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        lid, handle = obs[:, 4:7], obs[:, 4:7] + self.handle
        effort = (action[:, 3] + 1) / 2
        ready, lifted = self._ready(obs[:, :3], handle), self._lifted(handle, task.target_pos)
        solved = norm(lid - task.target_pos) < self.solved
        reward = np.where(solved, 10.0, 2 * hamacher(effort, ready) + 8 * lifted)
        # A lid that is tilted earns less, a lid that is kicked over nothing.
        reward = reward * np.maximum(1 - norm(obs[:, 7:11] - self.upright) / 0.2, 0.0)
        return Terms(reward, solved, ready, effort, lifted, np.zeros(len(obs)))

    def _ready(self, hand: np.ndarray, handle: np.ndarray) -> np.ndarray:
        """Whether the hand is at the handle, not having run into it."""
        from_handle = hand - handle
        floor = funnel(norm(from_handle[:, :2]), 0.02, 0.04, 0.4)
        in_place = tolerance(norm(from_handle), (0, 0.02), 0.5, "long_tail")
        return hamacher(above(hand, floor, floor / 2), in_place)

    def _lifted(self, handle: np.ndarray, target: np.ndarray) -> np.ndarray:
        """A fifth for lifting the lid at all, the rest for placing it on the box."""
        distance = norm((target - handle) * [1.0, 1.0, 3.0])
        placed = tolerance(distance, (0, 0.05), 0.25, "long_tail")
        return 0.2 * (handle[:, 2] > 0.04) + 0.8 * placed


CONTAINERS: dict[str, Rules] = {
    "bin-picking-v3": BinPicking(),
    "pick-out-of-hole-v3": PickOutOfHole(),
    "box-close-v3": BoxClose(),
}
