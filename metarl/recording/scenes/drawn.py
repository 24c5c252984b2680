"""Drawings of tasks that have no picture of their own: points, bandits and tabular MDPs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

from metarl.envs.arrays.tabular import STATES
from metarl.recording.canvas import Colour, font
from metarl.recording.episodes import Episode
from metarl.recording.scenes.scene import View
from metarl.types import Task

FINE = 3
"""Pixels drawn for each pixel of a picture along a side, which smooths edges."""
BLUE, ORANGE, GREEN = (0, 114, 178), (230, 159, 0), (0, 158, 115)
INK, GREY, WHITE = (34, 34, 34), (107, 107, 107), (255, 255, 255)
LIGHT, PALE = (228, 228, 228), (246, 246, 246)


class Pen:
    """Draws in units of a picture that is 1 wide; y grows downwards."""

    def __init__(self, width: int, aspect: float):
        self.width, self._height = width, round(width * aspect)
        self._scale = FINE * width
        self._image = Image.new("RGB", (FINE * width, FINE * self._height), WHITE)
        self._draw = ImageDraw.Draw(self._image)

    def dot(self, x: float, y: float, radius: float, fill: Colour, edge: Colour | None = None):
        box = [s * self._scale for s in (x - radius, y - radius, x + radius, y + radius)]
        self._draw.ellipse(box, fill=fill, outline=edge or fill, width=FINE)

    def line(self, points: Sequence[tuple[float, float]], colour: Colour, width: float = 0.006):
        if len(points) > 1:
            scaled = [(x * self._scale, y * self._scale) for x, y in points]
            self._draw.line(scaled, fill=colour, width=max(1, round(width * self._scale)))

    def box(self, x: float, y: float, right: float, bottom: float, colour: Colour):
        if right > x and bottom > y:
            self._draw.rectangle([s * self._scale for s in (x, y, right, bottom)], fill=colour)

    def text(self, x: float, y: float, text: str, size: float = 0.042, anchor: str = "lm"):
        place = x * self._scale, y * self._scale
        letters = font(max(8, round(size * self._scale)))
        self._draw.text(place, text, fill=INK, font=letters, anchor=anchor)

    def image(self) -> np.ndarray:
        size = self.width, self._height
        return np.asarray(self._image.resize(size, Image.Resampling.BOX))


class Drawn(ABC):
    """Base of scenes that draw from an episode's numbers alone."""

    aspect = 0.75
    notes = True

    def __init__(self, width: int):
        self._width = width

    def check(self, tasks: Sequence[Task]) -> None:  # noqa: B027  # a drawing needs nothing
        """Nothing can be in the way."""

    def prepare(self, episodes: Sequence[Episode]) -> None:  # noqa: B027
        """There is nothing to scale."""

    def views(self, episode: Episode, times: Sequence[int]) -> Iterator[View]:
        for time in times:
            pen = Pen(self._width, self.aspect)
            note = self.draw(pen, episode, time)
            yield View(pen.image(), note)

    @abstractmethod
    def draw(self, pen: Pen, episode: Episode, time: int) -> str:
        """Draws the state after `time` steps, and returns words on it."""

    def close(self) -> None:  # noqa: B027
        """There is nothing to close."""


class PointScene(Drawn):
    """The path to the goal."""

    aspect = 1.0
    _reach = 0.6

    def prepare(self, episodes: Sequence[Episode]) -> None:
        far = max(float(np.abs(episode.obs[:, :2]).max()) for episode in episodes)
        self._reach = 1.1 * max(0.6, min(far, 5.0))

    def draw(self, pen: Pen, episode: Episode, time: int) -> str:
        goal = np.asarray(episode.task["goal"], np.float64)
        pen.box(*self._at(-0.5, 0.5), *self._at(0.5, -0.5), PALE)
        for a, b in (((-9, 0), (9, 0)), ((0, -9), (0, 9))):
            pen.line([self._at(*a), self._at(*b)], LIGHT, 0.004)
        path = [self._at(*place) for place in episode.obs[: time + 1, :2].tolist()]
        pen.dot(*self._at(*goal), 0.035, GREEN)
        pen.text(self._at(*goal)[0] + 0.05, self._at(*goal)[1], "goal")
        pen.line(path, BLUE, 0.01)
        pen.dot(*path[0], 0.012, GREY)
        pen.dot(*path[-1], 0.022, BLUE, WHITE)
        return f"distance {np.hypot(*(episode.obs[time, :2] - goal)):.2f}"

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return 0.5 + 0.5 * x / self._reach, 0.5 - 0.5 * y / self._reach


class BanditScene(Drawn):
    """A row for each arm, with a bar for each pull: green where it paid."""

    def draw(self, pen: Pen, episode: Episode, time: int) -> str:
        chances = list(episode.task["probabilities"])
        pulled, paid = episode.actions[:time, 0].astype(int), episode.rewards[:time] > 0
        left, right, top = 0.21, 0.86, 0.09
        row = (self.aspect - top - 0.02) / len(chances)
        mark = (right - left) / max(episode.length, 1)
        pen.text(0.02, 0.045, "chance", 0.03)
        pen.text(left, 0.045, "pulls, green where they paid", 0.03)
        pen.text(0.98, 0.045, "count", 0.03, "rm")
        for arm, chance in enumerate(chances):
            y = top + arm * row
            best = chance == max(chances)
            pen.box(left, y + 0.12 * row, right, y + 0.88 * row, LIGHT if best else PALE)
            pen.text(0.02, y + row / 2, f"{arm}: {chance:.2f}", min(0.045, 0.8 * row))
            for pull in np.flatnonzero(pulled == arm).tolist():
                x = left + pull * mark
                colour = GREEN if paid[pull] else ORANGE
                pen.box(x, y + 0.12 * row, x + 0.85 * mark, y + 0.88 * row, colour)
            count = str(int((pulled == arm).sum()))
            pen.text(0.98, y + row / 2, count, min(0.045, 0.8 * row), "rm")
        if not time:
            return " "
        return f"arm {pulled[-1]} {'paid' if paid[-1] else 'did not pay'}"


class MdpScene(Drawn):
    """The states in a circle, larger the more often they were visited, and the path."""

    aspect = 0.85

    def draw(self, pen: Pen, episode: Episode, time: int) -> str:
        states = episode.obs[: time + 1, :STATES].argmax(axis=1).tolist()
        for a, b in pairwise(states):
            pen.line([self._at(a), self._at(b)], (170, 200, 222), 0.008)
        if time:
            pen.line([self._at(states[-2]), self._at(states[-1])], BLUE, 0.012)
        for state in range(STATES):
            visits = states.count(state)
            x, y = self._at(state)
            fill = ORANGE if state == states[-1] else (150, 190, 216) if visits else LIGHT
            pen.dot(x, y, 0.04 + 0.006 * min(visits, 6), fill, WHITE)
            pen.text(x, y, str(state), 0.04, "mm")
        if not time:
            return "state 0"
        paid = float(episode.rewards[time - 1])
        return f"state {states[-1]}, action {int(episode.actions[time - 1, 0])} paid {paid:+.2f}"

    def _at(self, state: int) -> tuple[float, float]:
        angle = 2 * pi * state / STATES - pi / 2
        return 0.5 + 0.36 * cos(angle), self.aspect / 2 + 0.35 * sin(angle)
