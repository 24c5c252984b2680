"""Interface of a scene: it draws the states of an episode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from metarl.errors import UserError
from metarl.recording.episodes import Episode
from metarl.types import Task


class View(NamedTuple):
    """Picture of one state."""

    image: np.ndarray  # [height, width, 3] uint8
    note: str = ""
    """Words on the state, such as a speed."""


class Scene(Protocol):
    """Draws episodes of a distribution's tasks."""

    aspect: float
    """Height of a picture for a width of 1."""
    notes: bool
    """Whether views have notes."""

    def check(self, tasks: Sequence[Task]) -> None:
        """Draws a state of the tasks before anything is played.

        Raises:
            UserError: where they cannot be drawn.
        """
        ...

    def prepare(self, episodes: Sequence[Episode]) -> None:
        """Receives all episodes of a film, so that their pictures have one scale."""
        ...

    def views(self, episode: Episode, times: Sequence[int]) -> Iterator[View]:
        """Yields a view after each number of steps in `times`, which grow from 0.

        Raises:
            UserError: where the episode, played again from its seed by its actions, is another.
        """
        ...

    def close(self) -> None: ...


def check_same(obs: np.ndarray, episode: Episode, step: int, name: str) -> None:
    """Raises a UserError where an episode that is played again reaches another state.

    Args:
        obs: [obs_dim] after `step` steps. An oracle's own observations end with the task's numbers.
    """
    before = episode.obs[step, : len(obs)]
    if not np.allclose(obs, before, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise UserError(
            f"{name}: an episode played again from its seed by its actions differs at step {step}, "
            "so it cannot be filmed\nits environment must be determined by the seed of its reset"
        )
