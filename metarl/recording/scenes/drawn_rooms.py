"""Drawings of rooms to search and to remember: half circle, wind, grid, T-maze, key to door."""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np

from metarl.envs.arrays import sparse_point, wind
from metarl.envs.arrays.grid_navigation import SIDE
from metarl.envs.arrays.key_to_door import REACH
from metarl.envs.arrays.t_maze import TMaze, moved
from metarl.recording.episodes import Episode
from metarl.recording.scenes.drawn import (
    BLUE,
    GREEN,
    GREY,
    LIGHT,
    ORANGE,
    PALE,
    WHITE,
    Drawn,
    Pen,
)

SKY = (196, 226, 214)
"""Colour of the places that pay."""
TRACE = (170, 200, 222)
"""Colour of the places where the agent has been."""


class HalfCircleScene(Drawn):
    """The half circle, the disc that pays and the path."""

    aspect = 0.62

    def draw(self, pen: Pen, episode: Episode, time: int) -> str:
        angle = float(episode.task["angle"])
        arc = [_on_half_circle(cos(a), sin(a)) for a in np.linspace(0, pi, 60)]
        goal = _on_half_circle(cos(angle), sin(angle))
        pen.dot(*goal, SCALE * sparse_point.RADIUS, SKY)
        pen.line(arc, LIGHT, 0.006)
        pen.dot(*goal, 0.014, GREEN)
        path = [_on_half_circle(*place) for place in episode.obs[: time + 1, :2].tolist()]
        pen.line(path, BLUE, 0.008)
        pen.dot(*path[0], 0.012, GREY)
        pen.dot(*path[-1], 0.02, BLUE, WHITE)
        place = sparse_point.goals_at(np.array(angle))
        return f"distance {np.hypot(*(episode.obs[time, :2] - place)):.2f}"


SCALE = 0.37
"""Width of a picture for a unit of the plane, around the half circle."""


def _on_half_circle(x: float, y: float) -> tuple[float, float]:
    return 0.5 + SCALE * x, 0.5 - SCALE * y


class WindScene(Drawn):
    """Arrows of the wind, the goal and the path."""

    aspect = 1.0

    def draw(self, pen: Pen, episode: Episode, time: int) -> str:
        x, y = episode.task["wind"]
        for column in np.linspace(-0.8, 0.8, 5):
            for row in np.linspace(-0.2, 1.4, 5):
                tip = column + 2 * x, row + 2 * y
                pen.line([self._at(column, row), self._at(*tip)], TRACE, 0.006)
                pen.dot(*self._at(*tip), 0.009, TRACE)
        pen.dot(*self._at(*wind.GOAL.tolist()), 0.022, GREEN)
        path = [self._at(*place) for place in episode.obs[: time + 1, :2].tolist()]
        pen.line(path, BLUE, 0.008)
        pen.dot(*path[0], 0.012, GREY)
        pen.dot(*path[-1], 0.015, BLUE, WHITE)
        return f"distance {np.hypot(*(episode.obs[time, :2] - wind.GOAL)):.2f}"

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return 0.5 + 0.48 * x, 0.78 - 0.48 * y


class GridScene(Drawn):
    """The cells, those of this episode in blue, and the goal."""

    aspect = 1.0

    def draw(self, pen: Pen, episode: Episode, time: int) -> str:
        places = [tuple(place) for place in episode.obs[: time + 1, :2].astype(int).tolist()]
        goal = tuple(episode.task["goal"])
        for x in range(SIDE):
            for y in range(SIDE):
                been = (x, y) in places
                self._cell(pen, x, y, SKY if (x, y) == goal else TRACE if been else PALE)
        pen.line([self._at(*place) for place in places], BLUE, 0.01)
        pen.dot(*self._at(*goal), 0.03, GREEN)
        pen.dot(*self._at(*places[-1]), 0.045, BLUE, WHITE)
        if places[-1] == goal:
            return "on the goal"
        return "has seen the goal" if goal in places else "has not seen the goal"

    def _cell(self, pen: Pen, x: int, y: int, colour: tuple[int, int, int]) -> None:
        centre, half = self._at(x, y), 0.088
        pen.box(centre[0] - half, centre[1] - half, centre[0] + half, centre[1] + half, colour)

    def _at(self, x: int, y: int) -> tuple[float, float]:
        return 0.5 + 0.185 * (x - (SIDE - 1) / 2), 0.5 - 0.185 * (y - (SIDE - 1) / 2)


class MazeScene(Drawn):
    """The corridor, drawn as long as the picture is wide, its cue and its arms."""

    aspect = 0.4

    def __init__(self, width: int, distribution: TMaze):
        super().__init__(width)
        self._detour = distribution.detour
        self._end = distribution.detour + distribution.length

    def draw(self, pen: Pen, episode: Episode, time: int) -> str:
        place = np.array([self._detour, 0])
        places: list[tuple[float, float]] = []
        for action in [None, *episode.actions[:time, 0].astype(int).tolist()]:
            place = place if action is None else moved(place, np.array(action), self._end)
            places.append(self._at(*place.tolist()))
        arm, half = int(episode.task["arm"]), 0.035
        left, right = self._at(0, 0), self._at(self._end, 0)
        pen.box(left[0] - half, left[1] - half, right[0] + half, right[1] + half, LIGHT)
        for y in (-1, 1):
            x, centre = self._at(self._end, y)
            pen.box(x - half, centre - half, x + half, centre + half, SKY if y == arm else PALE)
        pen.text(left[0], left[1] - 0.08, "up" if arm > 0 else "down", anchor="mm")
        pen.line(places, BLUE, 0.008)
        pen.dot(*places[-1], 0.022, BLUE, WHITE)
        return self._words(episode, place, time)

    def _words(self, episode: Episode, place: np.ndarray, time: int) -> str:
        if time and time == episode.length:
            return "in the right arm" if episode.solved_at else "not in the right arm"
        if episode.obs[time, 0] == 0 and episode.obs[time, 1] != 0:
            return "sees the cue"
        return "at the end" if place[0] == self._end else f"{self._end - place[0]} steps to the end"

    def _at(self, x: int, y: int) -> tuple[float, float]:
        return 0.08 + 0.84 * x / self._end, self.aspect / 2 - 0.1 * y


class KeyScene(Drawn):
    """The line with the key, the apples and the two doors, of which one phase is lit."""

    aspect = 0.5

    def draw(self, pen: Pen, episode: Episode, time: int) -> str:
        obs, colour = episode.obs[time], int(episode.task["colour"])
        own = BLUE if colour < 0 else ORANGE
        taken = np.flatnonzero(episode.obs[: time + 1, 5])
        self._line(pen, obs, own)
        done = episode.rewards[:time]
        apples = int((done[:-1] > 0).sum()) if time == episode.length else int((done > 0).sum())
        pen.text(0.5, 0.27, f"apples: {apples}", 0.05, "mm")
        if obs[1]:
            pen.dot(0.5, 0.36, 0.018, GREY)
            if obs[6]:
                pen.dot(0.5 + 0.12 * float(obs[6]), 0.36, 0.02, GREEN)
        for side, paint in ((-1, BLUE), (1, ORANGE)):
            x = 0.5 + 0.3 * side
            pen.box(x - 0.05, 0.31, x + 0.05, 0.46, paint if obs[2] or not obs[:3].any() else LIGHT)
        if time and time == episode.length:
            return "opened the door" if episode.solved_at else "did not open the door"
        if obs[0]:
            return "has the key" if len(taken) else "looks for the key"
        return "at the doors" if obs[2] else "among the apples"

    def _line(self, pen: Pen, obs: np.ndarray, own: tuple[int, int, int]) -> None:
        for cell in range(-REACH, REACH + 1):
            x = 0.5 + 0.16 * cell
            pen.box(x - 0.07, 0.04, x + 0.07, 0.18, PALE if obs[0] else LIGHT)
        if obs[0]:
            if obs[4]:
                x = 0.5 + 0.16 * REACH * float(obs[4])
                pen.box(x - 0.03, 0.08, x + 0.03, 0.14, own)
            pen.dot(0.5 + 0.16 * REACH * float(obs[3]), 0.11, 0.035, own if obs[5] else GREY)
