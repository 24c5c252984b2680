"""Common parts of policies in numpy that remember a trial, episode after episode."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from metarl.acting.families import Family
from metarl.acting.policy import Acting
from metarl.acting.units import Units


@runtime_checkable
class Remembering(Protocol):
    """A `Ready` whose memory can go on to the next episode of its trials."""

    actions: np.ndarray | None
    """Actions of the last step, [U, e, act_dim]; None before the first."""

    def after(self, rewards: np.ndarray, reached: np.ndarray | None = None) -> Acting:
        """Returns the policy with what it remembers after the episode.

        Args:
            rewards: of the episode's last step, [U, e].
            reached: the observation after that step, [U, e, obs_dim]; None if it is not known.
        """
        ...


class RewardScale(NamedTuple):
    """Division of the rewards in the inputs by their root mean square, then clipping."""

    root_mean_square: float
    clip: float

    def __call__(self, rewards: np.ndarray) -> np.ndarray:
        scaled = rewards / self.root_mean_square
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)


class PreviousStep:
    """The inputs that describe the previous step of trials at some units: its action, its reward,
    and whether it ended an episode."""

    def __init__(
        self,
        family: Family,
        scale: RewardScale | None,
        units: Units,
        width: int,
        before: np.ndarray | None,
    ):
        """`before` are the inputs [U, e, width] at the first step; None: zero, as trials begin."""
        self._family, self._scale = family, scale
        nothing = np.zeros((len(units), units.size, width), np.float32)
        self._inputs = nothing if before is None else before

    def __call__(self, actions: np.ndarray | None, rewards: np.ndarray) -> np.ndarray:
        """Returns the inputs at the next step, [U, e, width], after `actions` that were paid these
        `rewards` [U, e]; with None, those at the first step of an episode."""
        if actions is not None:
            self._inputs = self._described(actions, rewards)
        return self._inputs

    def at_end(self, actions: np.ndarray | None, rewards: np.ndarray) -> np.ndarray:
        """Returns the inputs at the first step of the next episode."""
        assert actions is not None
        inputs = self._described(actions, rewards)
        inputs[..., -1] = 1.0
        return inputs

    def _described(self, actions: np.ndarray, rewards: np.ndarray) -> np.ndarray:
        """Returns the inputs that describe a step within an episode."""
        parts = [self._family.encoded(actions), scaled(rewards, self._scale)[..., None]]
        return np.concatenate([*parts, np.zeros_like(parts[1])], -1, dtype=np.float32)


def scaled(rewards: np.ndarray, scale: RewardScale | None) -> np.ndarray:
    """Returns rewards as a network reads them."""
    return rewards if scale is None else scale(rewards)


def of_episodes(x: np.ndarray, units: Units) -> np.ndarray:
    """Returns what trials [K, e, ...] carry into the units' episodes, [U, size, ...].

    With more episodes to play than unfinished trials, several continue the same trial.
    """
    slots = np.arange(units.episodes) % x.shape[1]
    rows = x[units.tasks][:, slots].reshape(-1, units.size, *x.shape[2:])
    first = units.start - units.tasks.start * units.of_task
    return np.ascontiguousarray(rows[first : first + len(units)])
