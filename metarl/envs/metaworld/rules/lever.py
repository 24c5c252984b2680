"""Things that turn about an axle: a lever to raise, a dial to turn: lever-pull, dial-turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metarl.envs.metaworld.readings import Constants, Readings, sensed
from metarl.envs.metaworld.rules.base import Rules, Terms
from metarl.envs.metaworld.rules.shaping import SHOULDER, hamacher, nearness, norm, tolerance

UPRIGHT = np.pi / 24
"""Angle of the lever from upright, rad, that counts as pulled."""
LEVER_SCALE = np.array([4.0, 1.0, 4.0])
"""Weights of the axes in the distance to the lever: get below it before bumping into it."""

DIAL_GOAL = 0.07
"""Distance of the dial's mark from the goal, m, that counts as turned."""
DIAL_RADIUS = 0.05
"""Distance of the mark from the dial's axle, m."""
PUSH_OFFSET = np.array([0.05, 0.02, 0.09])
"""The place to push, as seen from the mark, m."""
PUSH_RADIUS = 0.005
"""Distance of the fingers from there, m, that counts as there."""


class LeverPull(Rules):
    sensed = (
        *sensed("site", "leverStart"),
        *sensed("geom_frame", "objGeom"),
        *sensed("joint", "LeverAxis"),
    )

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        return at.site("leverStart"), at.geom_quat("objGeom")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        lever, first = obs[:, 4:7], task.lever_pos_init
        to_lever = norm((obs[:, :3] + SHOULDER - lever) * LEVER_SCALE)
        margin = norm((task.init_tcp + SHOULDER - first) * LEVER_SCALE)
        ready = tolerance(to_lever, (0, 0.02), margin, "long_tail")
        error = np.abs(-at.joint("LeverAxis") - np.pi / 2)
        engaged = tolerance(error, (0, np.pi / 48), np.pi / 2 - np.pi / 12, "long_tail")
        to_target, start = norm(lever - task.target_pos), norm(first - task.target_pos)
        in_place = tolerance(to_target, (0, 0.04), start, "long_tail")
        reward = 10 * hamacher(ready, in_place)
        # What the reference calls obj_to_target here is the scaled distance to the lever.
        return Terms(reward, error <= UPRIGHT, to_lever < 0.03, ready, engaged, to_lever)


class DialTurn(Rules):
    sensed = (
        *sensed("body", "dial"),
        *sensed("body_quat", "dial"),
        *sensed("joint", "knob_Joint_1"),
    )

    def objects(self, at: Readings) -> Sequence[np.ndarray]:
        angle, mark = at.joint("knob_Joint_1"), at.body("dial").copy()
        mark[:, 0] += DIAL_RADIUS * np.sin(angle)
        mark[:, 1] -= DIAL_RADIUS * np.cos(angle)
        return mark, at.body_quat("dial")

    def judge(self, obs: np.ndarray, action: np.ndarray, at: Readings, task: Constants) -> Terms:
        mark, first, target = obs[:, 4:7], task.dial_push_position, task.target_pos
        to_object, to_target = norm(mark + PUSH_OFFSET - at.tcp), norm(mark - target)
        in_place = nearness(to_target, DIAL_GOAL, norm(first - target))
        reach = nearness(to_object, PUSH_RADIUS, norm(first - task.init_tcp), "gaussian")
        reach = hamacher(reach, np.clip(action[:, 3], 0, 1))
        reward = 10 * hamacher(reach, in_place)
        return Terms(reward, to_target <= DIAL_GOAL, to_object <= 0.01, reach, in_place, to_target)


LEVER: dict[str, Rules] = {"lever-pull-v3": LeverPull(), "dial-turn-v3": DialTurn()}
