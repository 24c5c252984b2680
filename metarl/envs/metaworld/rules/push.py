"""Pushing something along the table to a goal: push, push-back, push-wall, soccer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.shaping import caging, hamacher, norm, pinching, tolerance

RADIUS = 0.05
"""Distance from the goal, m, that counts as reached."""
SOLVED = 0.07
"""Distance from the goal, m, that counts as success in all but push."""
NEAR = 0.03
"""Distance between gripper and object, m, that counts as near."""


class Push(Rules):
    sensed = (*sensed("body", "obj"), *sensed("geom_frame", "objGeom"))

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.body("obj"), at.geom_quat("objGeom")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        obj, opening, target = obs[:, 4:7], obs[:, 3], task.target_pos
        to_object, to_target = norm(obj - at.tcp), norm(obj - target)
        margin = norm(task.obj_init_pos - target)
        in_place = tolerance(to_target, (0, RADIUS), margin, "long_tail")
        grasped = _grasping(at, task, action, obj)
        held = (to_object < 0.02) & (opening > 0)
        reward = 2 * grasped + np.where(held, 1 + 2 * grasped + 5 * in_place, 0.0)
        reward = np.where(to_target < RADIUS, 10.0, reward)
        return Terms(reward, to_target <= RADIUS, to_object <= NEAR, grasped, in_place, to_target)


class PushBack(Rules):
    sensed = (*sensed("geom", "objGeom"), *sensed("geom_frame", "objGeom"))

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.geom("objGeom"), at.geom_quat("objGeom")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        obj, opening, target = obs[:, 4:7], obs[:, 3], task.target_pos
        to_object, to_target = norm(obj - at.tcp), norm(obj - target)
        start = norm(task.obj_init_pos - target)
        in_place = tolerance(to_target, (0, RADIUS), start, "long_tail")
        grasped = pinching(at, task, obj, obj_radius=0.007, grip_thresh=0.010, xz_thresh=0.01)
        held = (to_object < 0.01) & (opening > 0) & (opening < 0.55)
        pulled = held & (start - to_target > 0.01)
        reward = hamacher(grasped, in_place) + np.where(pulled, 1 + 5 * in_place, 0.0)
        reward = np.where(to_target < RADIUS, 10.0, reward)
        return Terms(reward, to_target <= SOLVED, to_object <= NEAR, grasped, in_place, to_target)


class PushWall(Rules):
    sensed = PushBack.sensed
    passage = (-0.05, 0.77)
    """The place to pass the wall, (x, y) in m."""
    passed = 0.75
    """y, m, beyond which the goal counts and not the passage."""
    scale = np.array([3.0, 1.0, 1.0])
    """Weights of the axes in the distance from the passage."""

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.geom("objGeom"), at.geom_quat("objGeom")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        obj, init, target = obs[:, 4:7], task.obj_init_pos, task.target_pos
        to_object, to_target = norm(obj - at.tcp), norm(obj - target)
        in_place = tolerance(to_target, (0, RADIUS), norm(init - target), "long_tail")
        midpoint = obj.copy()
        midpoint[:, :2] = self.passage
        to_midpoint = norm((obj - midpoint) * self.scale)
        margin = norm((init - midpoint) * self.scale)
        passing = tolerance(to_midpoint, (0, RADIUS), margin, "long_tail")
        grasped = _grasping(at, task, action, obj)
        held = (to_object < 0.02) & (obs[:, 3] > 0)
        pushed = np.where(obj[:, 1] > self.passed, 5 + 3 * in_place, 1 + 4 * passing)
        reward = 2 * grasped + np.where(held, pushed, 0.0)
        reward = np.where(to_target < RADIUS, 10.0, reward)
        return Terms(reward, to_target <= SOLVED, to_object <= NEAR, grasped, in_place, to_target)


class Soccer(Rules):
    sensed = (*sensed("body", "soccer_ball"), *sensed("geom_frame", "objGeom"))
    scale = np.array([3.0, 1.0, 1.0])
    """Weights of the axes in the distance that is rewarded."""
    goal_depth, goal_side = 0.1, 0.1
    """How far the goal reaches in front of the target and to each side of it, m."""

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        # The geom is turned as the body is whose frame the reference reads.
        return at.body("soccer_ball"), at.geom_quat("objGeom")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        obj, target = obs[:, 4:7], task.target_pos
        to_object, to_target = norm(obj - at.tcp), norm(obj - target)
        scaled = norm((obj - target) * self.scale)
        # As in the reference, the ball's way so far, not the distance that it started from.
        margin = norm((obj - task.obj_init_pos) * self.scale)
        in_place = tolerance(scaled, (0, SOLVED), margin, "long_tail")
        line = target[:, 1] - self.goal_depth
        beside = (obj[:, 1] > line) & (np.abs(obj[:, 0] - target[:, 0]) > self.goal_side)
        missed = np.clip(in_place - 2 * (obj[:, 1] - line) / (1 - line), 0.0, 1.0)
        in_place = np.where(beside, missed, in_place)
        grasped = pinching(at, task, obj, obj_radius=0.013, grip_thresh=0.023, xz_thresh=0.005)
        reward = 3 * grasped + 6.5 * in_place
        reward = np.where(scaled < SOLVED, 10.0, reward)
        return Terms(reward, to_target <= SOLVED, to_object <= NEAR, grasped, in_place, to_target)


def _grasping(at: Readings, task: Constants, action: np.ndarray, obj: np.ndarray) -> np.ndarray:
    return caging(
        at,
        task,
        action,
        obj,
        obj_radius=0.015,
        pad_success_thresh=0.05,
        xz_thresh=0.005,
        density="high",
    )


PUSH: dict[str, Rules] = {
    "push-v3": Push(),
    "push-back-v3": PushBack(),
    "push-wall-v3": PushWall(),
    "soccer-v3": Soccer(),
}
