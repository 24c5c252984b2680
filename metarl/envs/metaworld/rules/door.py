"""Doors to swing by their handle and a lock to turn: door-open, -close, -lock, -unlock."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.shaping import (
    SHOULDER,
    above,
    funnel,
    hamacher,
    norm,
    tolerance,
)

SOLVED = 0.08
"""Distance of the handle from the goal, m, that counts as opened (along x) or closed."""
CLOSED = 0.05
"""Distance from the goal, m, from which on a closed door earns the full reward."""
FUNNEL = 0.12
"""Horizontal radius of the funnel by the handle, m, within which the hand may be at any height."""
FUNNEL_AXIS, BEHIND = np.array([-0.05, 0.0, 0.0]), np.array([0.0, 0.03, -0.01])
"""As seen from the handle, m: the funnel's middle, and where the hand should be."""
AJAR, WIDE = np.pi / 90, np.pi / 2 + np.pi / 6
"""Angles of the door, rad: what counts as opening it at all, and what is wanted."""

LOCKED = 0.02
"""Distance of the lock from its goal along one axis, m, that counts as locked or unlocked."""
LOCK_LENGTH = 0.1
"""How far a lock is from its goal, m, for a tenth of the reward."""
LOCK_SCALE = np.array([0.25, 1.0, 0.5])
"""Weights of the axes in the distance between gripper and lock."""


class Door(Rules):
    sensed = (*sensed("geom", "handle"), *sensed("geom_frame", "handle"))

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.geom("handle"), at.geom_quat("handle")


class DoorOpen(Door):
    sensed = (*Door.sensed, *sensed("joint", "doorjoint"))

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        ready, opened = self._ready(obs), self._opened(at.joint("doorjoint"))
        effort = (action[:, 3] + 1) / 2
        solved = np.abs(obs[:, 4] - task.target_pos[:, 0]) <= SOLVED
        reward = np.where(solved, 10.0, 2 * hamacher(ready, effort) + 8 * opened)
        return Terms(reward, solved, ready, effort, opened, np.zeros(len(obs)))

    def _ready(self, obs: np.ndarray) -> np.ndarray:
        """Whether the hand is between the handle and the door, not having run into either."""
        hand = obs[:, :3]
        from_handle = hand - obs[:, 4:7]
        # The floor under the hand is a funnel by the handle.
        floor = funnel(norm((from_handle - FUNNEL_AXIS)[:, :2]), FUNNEL, 0.04, 0.4)
        above_floor = above(hand, floor, floor / 2)
        in_place = tolerance(norm(from_handle - BEHIND), (0, FUNNEL / 2), 0.5, "long_tail")
        return hamacher(above_floor, in_place)

    def _opened(self, angle: np.ndarray) -> np.ndarray:
        """A fifth for opening the door at all, the rest for opening it wide; `angle` is <= 0."""
        wide = tolerance(WIDE + angle, (0, 0.5), np.pi / 3, "long_tail")
        return 0.2 * (angle < -AJAR) + 0.8 * wide


class DoorClose(Door):
    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        obj, target = obs[:, 4:7], task.target_pos
        to_target = norm(obj - target)
        in_place = tolerance(to_target, (0, CLOSED), norm(task.obj_init_pos - target))
        # The margin follows the handle, as in the reference.
        margin = norm(task.hand_init_pos - obj) + 0.1
        hand_in_place = tolerance(norm(at.tcp - target), (0, 0.25 * CLOSED), margin)
        reward = np.where(to_target < CLOSED, 10.0, 3 * hand_in_place + 6 * in_place)
        zeros, ones = np.zeros(len(obs)), np.ones(len(obs))
        return Terms(reward, to_target <= SOLVED, zeros, ones, hand_in_place, to_target)


class DoorLock(Rules):
    sensed = (*sensed("site", "lockStartLock"), *sensed("body_quat", "door_link"))

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.site("lockStartLock"), at.body_quat("door_link")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        lock = obs[:, 4:7]
        to_lock = norm((lock - at.left_pad) * LOCK_SCALE)
        # The margin is meant to be the distance at first, but the reference's `init_left_pad` is
        # a view of the pad where it is now.
        near_lock = tolerance(to_lock, (0, 0.01), to_lock, "long_tail")
        to_target = np.abs(task.target_pos[:, 2] - lock[:, 2])
        pressed = tolerance(to_target, (0, 0.005), LOCK_LENGTH, "long_tail")
        reward = 2 * hamacher(obs[:, 3], near_lock) + 8 * pressed
        return Terms(reward, to_target <= LOCKED, to_lock <= 0.05, near_lock, pressed, to_target)


class DoorUnlock(Rules):
    sensed = (
        *sensed("site", "lockStartUnlock"),
        *sensed("body", "lock_link"),
        *sensed("body_quat", "door_link"),
    )

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.site("lockStartUnlock"), at.body_quat("door_link")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        lock = obs[:, 4:7]
        to_lock = norm((obs[:, :3] + SHOULDER - lock) * LOCK_SCALE)
        # Of where the lock's body is now: the reference's `obj_init_pos` is a view of it.
        margin = norm((task.init_tcp + SHOULDER - at.body("lock_link")) * LOCK_SCALE)
        ready = tolerance(to_lock, (0, 0.02), margin, "long_tail")
        to_target = np.abs(task.target_pos[:, 0] - lock[:, 0])
        pushed = tolerance(to_target, (0, 0.005), LOCK_LENGTH, "long_tail")
        reward = 2 * ready + 8 * pushed
        return Terms(reward, to_target <= LOCKED, to_lock <= 0.05, ready, pushed, to_target)


DOOR: dict[str, Rules] = {
    "door-open-v3": DoorOpen(),
    "door-close-v3": DoorClose(),
    "door-lock-v3": DoorLock(),
    "door-unlock-v3": DoorUnlock(),
}
