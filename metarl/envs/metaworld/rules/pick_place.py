"""Picking something up and carrying it to a goal: pick-place, pick-place-wall, shelf-place,
basketball, hand-insert."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.shaping import caging, enclosing, hamacher, norm, tolerance

RADIUS = 0.05
"""Distance from the goal, m, that earns the full reward."""
SOLVED = 0.07
"""Distance from the goal, m, that counts as success where no other is given."""
NEAR = 0.03
"""Distance between gripper and object, m, that counts as near."""


class PickPlace(Rules):
    sensed = (*sensed("body", "obj"), *sensed("geom_frame", "objGeom"))

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.body("obj"), at.geom_quat("objGeom")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        obj, init, target = obs[:, 4:7], task.obj_init_pos, task.target_pos
        to_object, to_target = norm(obj - at.tcp), norm(obj - target)
        in_place = tolerance(to_target, (0, RADIUS), norm(init - target), "long_tail")
        grasped = _gripping(at, task, action, obj)
        lifted = obj[:, 2] - 0.01 > init[:, 2]
        held = (to_object < 0.02) & (obs[:, 3] > 0) & lifted
        reward = hamacher(grasped, in_place) + np.where(held, 1 + 5 * in_place, 0.0)
        reward = np.where(to_target < RADIUS, 10.0, reward)
        return Terms(reward, to_target <= SOLVED, to_object <= NEAR, grasped, in_place, to_target)


class PickPlaceWall(Rules):
    sensed = (*sensed("geom", "objGeom"), *sensed("geom_frame", "objGeom"))
    above_wall = np.array([0.77, 0.25])
    """The place to pass over the wall, y and z, m; x is the goal's."""
    scale = np.array([1.0, 1.0, 3.0])
    """Weights of the axes in the distance from there."""
    passed = 0.75
    """y, m, from which on the goal counts."""

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.geom("objGeom"), at.geom_quat("objGeom")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        obj, init, target = obs[:, 4:7], task.obj_init_pos, task.target_pos
        over_wall = target.copy()
        over_wall[:, 1:] = self.above_wall
        to_object, to_target = norm(obj - at.tcp), norm(obj - target)
        in_place = tolerance(to_target, (0, RADIUS), norm(init - target), "long_tail")
        to_wall, margin = (norm((x - over_wall) * self.scale) for x in (obj, init))
        at_wall = tolerance(to_wall, (0, RADIUS), margin, "long_tail")
        grasped = caging(
            at,
            task,
            action,
            obj,
            obj_radius=0.015,
            pad_success_thresh=0.05,
            xz_thresh=0.005,
        )
        lifted = obj[:, 2] - 0.015 > init[:, 2]
        held = (to_object < 0.02) & (obs[:, 3] > 0) & lifted
        carried = np.where(obj[:, 1] > self.passed, 5 + 3 * in_place, 1 + 4 * at_wall)
        reward = hamacher(grasped, at_wall) + np.where(held, carried, 0.0)
        reward = np.where(to_target < RADIUS, 10.0, reward)
        return Terms(reward, to_target <= SOLVED, to_object <= NEAR, grasped, in_place, to_target)


class ShelfPlace(Rules):
    sensed = PickPlace.sensed

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.body("obj"), at.geom_quat("objGeom")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        obj, init, target = obs[:, 4:7], task.obj_init_pos, task.target_pos
        to_object, to_target = norm(obj - at.tcp), norm(obj - target)
        in_place = tolerance(to_target, (0, RADIUS), norm(init - target), "long_tail")
        grasped = caging(
            at,
            task,
            action,
            obj,
            obj_radius=0.02,
            pad_success_thresh=0.05,
            xz_thresh=0.01,
        )
        reward = hamacher(grasped, in_place)
        in_place = _not_under_the_shelf(obj, target, in_place)
        lifted = obj[:, 2] - 0.01 > init[:, 2]
        held = (to_object < 0.025) & (obs[:, 3] > 0) & lifted
        reward = reward + np.where(held, 1 + 5 * in_place, 0.0)
        reward = np.where(to_target < RADIUS, 10.0, reward)
        return Terms(reward, to_target <= SOLVED, to_object <= NEAR, grasped, in_place, to_target)


class Basketball(Rules):
    sensed = (
        *sensed("body", "bsktball"),
        *sensed("body_quat", "bsktball"),
        *sensed("site", "goal"),
    )
    radius = 0.08
    """Distance from the goal, m, that counts as reached."""
    scale = np.array([1.0, 1.0, 2.0])
    """Weights of the axes in that distance."""
    above_hoop = 0.3
    """z of the goal, m: a little above the hoop, where the site is."""

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.body("bsktball"), at.body_quat("bsktball")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        obj, init, target = obs[:, 4:7], task.obj_init_pos, at.site("goal").copy()
        target[:, 2] = self.above_hoop
        to_object, to_target = norm(obj - at.tcp), norm((obj - target) * self.scale)
        margin = norm((init - target) * self.scale)
        in_place = tolerance(to_target, (0, self.radius), margin, "long_tail")
        grasped = caging(
            at,
            task,
            action,
            obj,
            obj_radius=0.025,
            pad_success_thresh=0.06,
            xz_thresh=0.005,
            density="high",
        )
        lifted = obj[:, 2] - 0.01 > init[:, 2]
        held = (to_object < 0.035) & (obs[:, 3] > 0) & lifted
        grasped = np.where(held, 1.0, grasped)
        reward = hamacher(grasped, in_place) + np.where(held, 1 + 5 * in_place, 0.0)
        reward = np.where(to_target < self.radius, 10.0, reward)
        reached, near = to_target <= self.radius, to_object <= 0.05
        return Terms(reward, reached, near, grasped, in_place, to_target)


class HandInsert(Rules):
    sensed = (*sensed("body", "obj"), *sensed("body_quat", "obj"))

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.body("obj"), at.body_quat("obj")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        obj, target = obs[:, 4:7], task.target_pos
        to_object, to_target = norm(obj - at.tcp), norm(obj - target)
        margin = norm(task.obj_init_pos - target)
        in_place = tolerance(to_target, (0, RADIUS), margin, "long_tail")
        grasped = caging(
            at,
            task,
            action,
            obj,
            obj_radius=0.015,
            pad_success_thresh=0.05,
            xz_thresh=0.005,
            density="high",
        )
        held = (to_object < 0.02) & (obs[:, 3] > 0)
        reward = hamacher(grasped, in_place) + np.where(held, 1 + 7 * in_place, 0.0)
        reward = np.where(to_target < RADIUS, 10.0, reward)
        return Terms(reward, to_target <= RADIUS, to_object <= NEAR, grasped, in_place, to_target)


def _gripping(at: Readings, task: Constants, action: np.ndarray, obj: np.ndarray) -> np.ndarray:
    """`_gripper_caging_reward` of pick-place, [N] in [0, 1]: `caging` of high density, but with
    each pad on its own side of the object."""
    caged = enclosing(at, task, obj, obj_radius=0.015, xz_thresh=0.005)
    effort = np.clip(action[:, 3], 0.0, 1.0)
    return (hamacher(caged, np.where(caged > 0.97, effort, 0.0)) + caged) / 2


def _not_under_the_shelf(obj: np.ndarray, target: np.ndarray, in_place: np.ndarray) -> np.ndarray:
    """`in_place` [N], less the nearer an object that is too low comes to the shelf's front, and
    0 beneath it."""
    height, width, depth = 0.24, 0.15, 0.15
    aside = np.abs(obj[:, 0] - target[:, 0])
    low = (obj[:, 2] > 0) & (obj[:, 2] < height) & (aside < width)
    front = target[:, 1] - depth
    before = low & (obj[:, 1] > front) & (obj[:, 1] < target[:, 1])
    loss = hamacher((obj[:, 1] - front) / depth, (height - obj[:, 2]) / height)
    in_place = np.where(before, np.clip(in_place - loss, 0.0, 1.0), in_place)
    return np.where(low & (obj[:, 1] > target[:, 1]), 0.0, in_place)


PICK_PLACE: dict[str, Rules] = {
    "pick-place-v3": PickPlace(),
    "pick-place-wall-v3": PickPlaceWall(),
    "shelf-place-v3": ShelfPlace(),
    "basketball-v3": Basketball(),
    "hand-insert-v3": HandInsert(),
}
