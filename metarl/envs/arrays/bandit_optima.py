"""Known policies for Bernoulli bandits whose arms have probabilities U(0, 1).

A policy sees each arm's successes and failures and the number of pulls left. The Gittins index here
is for a finite horizon: an arm's reward per pull until the best time to stop, at the latest the
last pull. Its policy is near-optimal; the optimum can be computed for few arms only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Policy = Callable[[np.ndarray, np.ndarray, int, np.random.Generator], np.ndarray]
"""Maps successes and failures [N, k], pulls left and a generator to scores [N, k]; the arm with the
highest score is pulled."""


def gittins_indices(horizon: int, charges: int = 1001) -> np.ndarray:
    """Returns the indices [horizon + 1, horizon, horizon] by pulls left m, successes s, failures f.

    Calibration (Gittins, Glazebrook and Weber 2011, section 1.6): the index is the charge per pull
    at which pulling the arm on has value 0, if one may stop at any time:
    V_m(s, f) = max(0, p - charge + p V_{m-1}(s + 1, f) + (1 - p) V_{m-1}(s, f + 1)), with
    p = (s + 1) / (s + f + 2). Charges are a grid over [0, 1], interpolated linearly.
    Indices are valid where s + f + m <= horizon; a policy needs no others.
    """
    charge = np.linspace(0.0, 1.0, charges)
    successes, failures = np.meshgrid(np.arange(horizon), np.arange(horizon), indexing="ij")
    p = (successes + 1.0) / (successes + failures + 2.0)
    indices = np.zeros((horizon + 1, horizon, horizon))
    values = np.zeros((charges, horizon + 1, horizon + 1))
    for left in range(1, horizon + 1):
        met = slice(0, horizon - left + 1)
        chance = p[met, met]
        end = met.stop
        gain = chance - charge[:, None, None]
        gain += chance * values[:, 1 : end + 1, :end]
        gain += (1.0 - chance) * values[:, :end, 1 : end + 1]
        # The gain falls with the charge: interpolate its zero after the last positive value.
        last = np.clip((gain > 0.0).sum(0) - 1, 0, charges - 2)[None]
        above = np.take_along_axis(gain, last, 0)[0]
        below = np.take_along_axis(gain, last + 1, 0)[0]
        indices[left, met, met] = charge[last[0]] + above / (above - below) / (charges - 1)
        values[:, :end, :end] = np.maximum(gain, 0.0)
    return indices


def gittins(horizon: int) -> Policy:
    """Returns the policy that pulls the arm with the highest Gittins index."""
    indices = gittins_indices(horizon)

    def scores(
        successes: np.ndarray, failures: np.ndarray, left: int, rng: np.random.Generator
    ) -> np.ndarray:
        del rng
        return indices[left, successes, failures]

    return scores


def thompson(
    successes: np.ndarray, failures: np.ndarray, left: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws each arm's probability from its posterior (Thompson 1933)."""
    del left
    return rng.beta(successes + 1.0, failures + 1.0)


def informed(probabilities: np.ndarray) -> Policy:
    """Returns the policy that knows the probabilities [N, k], an upper bound."""
    return lambda *_: probabilities


class Result(NamedTuple):
    """A policy's mean return and its standard error."""

    mean: float
    stderr: float


def play(
    policy: Policy, probabilities: np.ndarray, horizon: int, rng: np.random.Generator
) -> Result:
    """Plays `horizon` pulls on each of N bandits with these probabilities [N, k]."""
    bandits = np.arange(len(probabilities))
    successes = np.zeros(probabilities.shape, np.int64)
    failures = np.zeros_like(successes)
    for left in range(horizon, 0, -1):
        arm = policy(successes, failures, left, rng).argmax(axis=1)
        paid = rng.random(len(bandits)) < probabilities[bandits, arm]
        successes[bandits, arm] += paid
        failures[bandits, arm] += ~paid
    returns = successes.sum(axis=1)
    return Result(float(returns.mean()), float(returns.std(ddof=1) / len(returns) ** 0.5))
