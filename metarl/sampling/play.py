"""A share of the episodes of a round, played from begin to end where its environments are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metarl.acting.policy import Acting
from metarl.acting.units import Units
from metarl.sampling.draws import RoundDraws
from metarl.sampling.record import Record
from metarl.sampling.rows import RowError, Share

POLICY = "policy"
"""`field` of a RowError for a policy whose numbers are not finite."""
LARGE = 1e6
"""Magnitude of an observation from which its squares are a likely cause of what is not finite."""


def too_large(size: float) -> str:
    """Returns words on observations that explain a policy that is not finite; empty if usual."""
    return f"observations up to {size:.3g}" if size > LARGE else ""


class Round(NamedTuple):
    """Parameters and keys, all that a share needs for a round beside its environments."""

    acting: Acting
    """The policy of the groups of the share's units."""
    draws: RoundDraws


def play(share: Share, units: Units, asked: Round, record: Record) -> None:
    """Plays one episode in each of the units' rows, and writes them to their `record`, which has
    outputs of the policy's width.

    Raises:
        RowError: for a fault of an environment or of the policy.
    """
    Play(share, units, asked, record).to_the_end()


class Play:
    """The episodes of some units while they are played, in the only part of a share."""

    def __init__(self, share: Share, units: Units, asked: Round, record: Record):
        self._share, self._rows, self._where = share, share.rows, units.rows
        self._record = record
        places = units.places()
        self._steps, self._noise = asked.draws.steps, asked.draws.noise(places)
        groups, n = units.groups(), len(places)
        self._policy, self._grid = asked.acting.ready(groups), (len(groups), groups.size)
        first = self._where.start - groups.rows.start
        self._own = slice(first, first + n)
        """Rows of the groups that are played here; the others are zero."""
        size = len(groups) * groups.size
        self._obs = np.zeros((size, record.obs.shape[2]), np.float32)
        self._drawn = np.zeros((size, asked.draws.width), np.float32)
        self._paid = np.zeros(size, np.float32)
        self._rows.seeds[self._where] = asked.draws.seeds(places)
        self._alive = np.ones(len(places), bool)
        self._whole = True
        """Whether no episode has ended so far."""

    def to_the_end(self) -> None:
        record, rows, where = self._record, self._rows, self._where
        record.begin()
        self._share.reset(0)
        rewards, t = np.zeros(len(self._alive), np.float32), 0
        while t < self._steps and self._alive.any():
            record.fill(t)
            self._act(t, rewards)
            self._share.step(0)
            rewards, t = self._receive(t), t + 1
        record.clear_after(t)
        going = self._alive
        record.lengths[going] = t  # cut short: fewer steps were asked for than the horizon
        record.final_obs[going] = rows.obs[where][going]

    def _act(self, t: int, rewards: np.ndarray) -> None:
        """Acts at the present observations, in groups; the ended episodes see zeros."""
        record, grid, own = self._record, self._grid, self._own
        obs = record.obs[t]
        obs[:] = self._rows.obs[self._where]
        if not self._whole:
            obs[~self._alive] = 0.0
        self._obs[own], self._paid[own], self._drawn[own] = obs, rewards, self._noise.at(t)
        actions, outputs = self._policy(
            self._obs.reshape(*grid, -1), self._paid.reshape(grid), self._drawn.reshape(*grid, -1)
        )
        size = len(self._obs)
        record.actions[t] = actions.reshape(size, -1)[own]
        record.outputs[t] = outputs.reshape(size, outputs.shape[2])[own]
        self._rows.actions[self._where] = record.actions[t]
        self._check(t)

    def _check(self, t: int) -> None:
        record = self._record
        if np.isfinite(record.outputs[t]).all() and np.isfinite(record.actions[t]).all():
            return
        finite = np.isfinite(record.outputs[t]).all(1) & np.isfinite(record.actions[t]).all(1)
        row = self._where.start + int(finite.argmin())
        raise RowError(POLICY, too_large(float(np.abs(record.obs[t]).max())), "", row, t + 1)

    def _receive(self, t: int) -> np.ndarray:
        """Writes the step's results and returns its rewards, [N]; zero after an episode's end."""
        record, rows, where, alive = self._record, self._rows, self._where, self._alive
        rewards = record.rewards[t]
        rewards[:] = rows.rewards[where]
        if not self._whole:
            for x in (record.actions[t], record.outputs[t], rewards):
                x[~alive] = 0
        solved = rows.success[where]
        if solved.any():
            record.solved_at[alive & solved & (record.solved_at == 0)] = t + 1
        terminated = rows.terminated[where]
        ends = (terminated | rows.truncated[where]) & alive
        if ends.any():
            record.final_obs[ends] = rows.obs[where][ends]
            record.lengths[ends] = t + 1
            record.terminated[ends], record.truncated[ends] = terminated[ends], ~terminated[ends]
            self._alive, self._whole = alive & ~ends, False
        return rewards


def first_of(errors: Sequence[RowError]) -> RowError:
    """Returns the error that one share of all rows would have met first."""
    return min(errors, key=lambda error: (error.step, _stage(error.field), error.row))


def _stage(field: str) -> int:
    """Returns which part of a step finds an error: the policy, the environment, or the check of
    its numbers."""
    return 0 if field == POLICY else 2 if field in ("observation", "reward") else 1
