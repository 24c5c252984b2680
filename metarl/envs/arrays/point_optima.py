"""Bounds of the 2-D navigation tasks, and policies that attain them or come close.

All three points move by at most 0.1 in each coordinate, so after t steps the places that a point
can have reached are a square (in a wind a shifted one). The nearest place of that square to the
goal is the goal clipped to it, and these places follow each other by moves that are allowed. So one
path has the largest reward of every step at once, and its return is exactly the best that a policy
can get if it is told the task.
"""

from __future__ import annotations

import numpy as np

from metarl.envs.arrays import point_goal, sparse_point, wind
from metarl.types import StepResult


def told_goal(goals: np.ndarray, horizon: int) -> np.ndarray:
    """Returns the best return of `point-goal` at known goals [N, 2], [N].

    Each step costs the distance to the goal, and the path that is nearest at each step is also the
    first to end the episode.
    """
    reach = point_goal.STRIDE * np.arange(1, horizon + 1)[:, None, None]
    offset = goals - np.clip(goals, -reach, reach)
    ended = np.abs(offset).max(axis=-1) < point_goal.TOLERANCE
    before = np.vstack([np.zeros_like(ended[:1]), ended[:-1]])
    return -np.where(before, 0.0, np.hypot(offset[..., 0], offset[..., 1])).sum(axis=0)


def told_angle(angles: np.ndarray, horizon: int, dense: bool = False) -> np.ndarray:
    """Returns the best return of `sparse-point` at known angles [N], [N]."""
    goals = sparse_point.goals_at(angles)
    reach = sparse_point.STRIDE * np.arange(1, horizon + 1)[:, None, None]
    offset = goals - np.clip(goals, -reach, reach)
    distance = np.hypot(offset[..., 0], offset[..., 1])
    return sparse_point.rewards_at(distance, dense).sum(axis=0)


def told_wind(winds: np.ndarray, horizon: int) -> np.ndarray:
    """Returns the best return of `wind` in known winds [N, 2], [N].

    A point can always stay at x = 0, since its own move is larger than the wind. Along y it comes
    within the radius of the goal in step ceil((1 - radius) / (0.1 + wind)) and not before, and can
    stay there.

    It is also the return of the Bayes-optimal policy, which is not told: `Steersman` attains it.
    """
    way = wind.GOAL[1] - wind.RADIUS
    first = np.ceil(way / (wind.STRIDE + winds[:, 1]) - 1e-9)
    return np.clip(horizon + 1 - first, 0.0, None)


class Steersman:
    """Plays the Bayes-optimal policy of `wind` in K x E trials; implements Scripted.

    The first step goes up, which is the best along y in any wind, and shows the wind. The next
    steps undo what the wind did along x in it: at most 0.08, at 0.02 or more a step, for which the
    5 or more steps that the way up still takes are enough.
    """

    def __init__(self) -> None:
        self._wind: np.ndarray | None = None

    def begin(self, obs: np.ndarray) -> None:
        self._place = obs.astype(np.float64)

    def act(self) -> np.ndarray:
        if self._wind is None:
            action = np.zeros_like(self._place)
            action[..., 1] = 1.0
        else:
            wanted = (wind.GOAL - self._place - self._wind) / wind.STRIDE
            action = np.clip(wanted, -1.0, 1.0)
        self._action = action
        return action

    def see(self, step: StepResult) -> None:
        place = step.obs.astype(np.float64)
        if self._wind is None:
            self._wind = place - self._place - wind.STRIDE * self._action
        self._place = place


class Sweeper:
    """Searches the half circle of `sparse-point` in K x E trials; implements Scripted.

    It goes to the end of the half circle at angle 0 and along it. The first reward r tells the goal
    exactly: ahead on the circle, at distance 1 - r. From then on, and in later episodes, it goes
    straight there. It is no optimum: the Bayes-optimal policy is not known.
    """

    STEP = 0.09
    """Angle of a step along the circle in radians, whose chord fits into the largest move."""

    def __init__(self) -> None:
        self._goal: np.ndarray | None = None

    def begin(self, obs: np.ndarray) -> None:
        self._place = obs.astype(np.float64)
        self._angle = np.full(obs.shape[:2], -self.STEP)
        if self._goal is None:
            self._goal = np.full(obs.shape, np.nan)

    def act(self) -> np.ndarray:
        assert self._goal is not None  # `begin` comes first
        target = sparse_point.goals_at(np.maximum(self._angle, 0.0))
        arrived = np.abs(target - self._place).max(axis=-1) < 1e-3
        self._angle = np.where(arrived, np.minimum(self._angle + self.STEP, np.pi), self._angle)
        sweep = sparse_point.goals_at(np.maximum(self._angle, 0.0))
        aim = np.where(np.isnan(self._goal), sweep, self._goal)
        return np.clip((aim - self._place) / sparse_point.STRIDE, -1.0, 1.0)

    def see(self, step: StepResult) -> None:
        assert self._goal is not None
        self._place = step.obs.astype(np.float64)
        distance = 1.0 - step.rewards.astype(np.float64)
        here = np.arctan2(self._place[..., 1], self._place[..., 0])
        radius = np.hypot(self._place[..., 0], self._place[..., 1])
        # The law of cosines: the place, the goal and the origin, whose distance to the goal is 1.
        between = (1.0 + radius**2 - distance**2) / (2.0 * np.maximum(radius, 1e-9))
        ahead = here + np.arccos(np.clip(between, -1.0, 1.0))
        new = (step.rewards > 0) & np.isnan(self._goal[..., 0])
        found = sparse_point.goals_at(np.clip(ahead, 0.0, np.pi))
        self._goal = np.where(new[..., None], found, self._goal)
