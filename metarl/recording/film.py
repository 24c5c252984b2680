"""Puts episodes side by side: panels of all tasks and adaptation steps, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from metarl.errors import UserError
from metarl.recording.canvas import Layout, Panel
from metarl.recording.episodes import Episode
from metarl.recording.scenes.scene import Scene, View

LARGEST = 3840 * 2160
"""Pixels of a frame."""
MOST_GIF = 400_000_000
"""Pixels of all frames of a GIF, which are kept until its end."""
MOST_FRAMES = 20_000
FRAMES = {".gif": 75, ".mp4": 500}
"""Frames of a whole film at the most, where the distance of frames is not given."""
STRIP, STRIP_WIDTH, STRIP_ROWS = 5, 176, 8
"""Pictures, their width in pixels, and rows of a strip."""


class Times(NamedTuple):
    """Numbers of steps after which a frame is made."""

    longest: int
    every: int

    @property
    def steps(self) -> list[int]:
        return [*range(0, self.longest, self.every), self.longest]

    @classmethod
    def of(cls, longest: int, every: int | str, suffix: str) -> Times:
        """Returns the times for episodes of at most `longest` steps."""
        return cls(
            longest, every if isinstance(every, int) else -(-longest // (FRAMES[suffix] - 1))
        )


def check_size(layout: Layout, times: Times, suffix: str) -> None:
    """Raises a UserError for a film that is too large to be made or watched."""
    width, height = layout.size
    frames = len(times.steps)
    if width * height > LARGEST:
        raise UserError(
            f"a frame would have {width} x {height} pixels, more than 3840 x 2160\n"
            "give a smaller --size, or fewer --tasks or --steps"
        )
    if frames > MOST_FRAMES or (suffix == ".gif" and frames * width * height > MOST_GIF):
        raise UserError(
            f"the film would have {frames:,} frames of {width} x {height} pixels; "
            "give a larger --every, or a smaller --size"
        )


def headings(steps: Sequence[int]) -> list[str]:
    """Returns words on each number of adaptation steps."""
    return [
        "before adaptation" if not n else f"after {n} step{'s' if n > 1 else ''}" for n in steps
    ]


class Shown(NamedTuple):
    """The frame after some steps, and the views in it."""

    step: int
    frame: Image.Image
    views: list[list[View]]


def frames(
    scene: Scene, episodes: Sequence[Sequence[Episode]], layout: Layout, times: Times
) -> Iterator[Shown]:
    """Yields the frames; an episode that has ended stays at its last state.

    Raises:
        UserError: as `Scene.views`.
    """
    scene.prepare([episode for row in episodes for episode in row])
    playing = [[Played(scene, episode, times) for episode in row] for row in episodes]
    for step in times.steps:
        views = [[played.at(step) for played in row] for row in playing]
        panels = [
            [played.panel(view, step) for played, view in zip(*both, strict=True)]
            for both in zip(playing, views, strict=True)
        ]
        yield Shown(step, layout.frame(panels), views)


class Played:
    """An episode's views, one after the other."""

    def __init__(self, scene: Scene, episode: Episode, times: Times):
        self._episode, self._so_far = episode, episode.so_far
        own = sorted({min(step, episode.length) for step in times.steps})
        self._views, self._next = scene.views(episode, own), 0
        self._own, self._view = own, View(np.zeros((1, 1, 3), np.uint8))  # until the first

    def at(self, step: int) -> View:
        """Returns the view after `step` steps, which grow."""
        while self._next < len(self._own) and self._own[self._next] <= step:
            self._view = next(self._views)
            self._next += 1
        return self._view

    def panel(self, view: View, step: int) -> Panel:
        now = min(step, self._episode.length)
        ended = step >= self._episode.length and not self._episode.truncated
        left = f"return {self._so_far[now]:.1f}"
        right = f"ended at {now}" if ended else f"step {now} of {self._episode.length}"
        return Panel(view.image, left, right, view.note)


class Strip:
    """Pictures at a few times of a film, a row for each of its panels."""

    def __init__(self, title: str, episodes: Sequence[Sequence[Episode]], times: Times):
        self._title, self._steps = title, times.steps
        rows = [episode for row in episodes for episode in row][:STRIP_ROWS]
        self._episodes, self._kept = rows, []
        last = len(self._steps) - 1
        self._places = sorted({round(i * last / (STRIP - 1)) for i in range(STRIP)})

    def see(self, index: int, shown: Shown) -> None:
        """Keeps the views of a frame that belongs into the strip."""
        if index in self._places:
            views = [view for row in shown.views for view in row][:STRIP_ROWS]
            self._kept.append((shown.step, views))

    def picture(self, aspect: float) -> Image.Image:
        rows = [
            f"{episode.label}, {headings([episode.step])[0]}: return {episode.returned:.1f}"
            for episode in self._episodes
        ]
        heads = [f"step {step}" for step, _ in self._kept]
        layout = Layout(STRIP_WIDTH, aspect, self._title, heads, rows, notes=False)
        panels = [
            [self._panel(episode, views[row], step) for step, views in self._kept]
            for row, episode in enumerate(self._episodes)
        ]
        return layout.frame(panels)

    @staticmethod
    def _panel(episode: Episode, view: View, step: int) -> Panel:
        now = min(step, episode.length)
        return Panel(view.image, f"return {episode.so_far[now]:.1f}", "", "")
