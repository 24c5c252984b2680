"""What Bernoulli bandits allow: known policies for arms whose probabilities are U(0, 1).

A policy sees each arm's successes and failures and the pulls that are left. The Gittins index
here is that of the finite horizon: what an arm pays per pull until the best moment to give it up,
no later than the last pull. Its policy is near the optimum, which is out of reach but for few arms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Policy = Callable[[np.ndarray, np.ndarray, int, np.random.Generator], np.ndarray]
"""Successes and failures [N, k] of each arm, pulls left -> scores [N, k]; the best is pulled."""


def gittins_indices(horizon: int, charges: int = 1001) -> np.ndarray:
    """Indices [horizon + 1, horizon, horizon] by pulls left m, successes s and failures f.

    Calibration (Gittins, Glazebrook and Weber 2011, section 1.6): the index is the charge a pull
    at which going on with the arm is worth nothing, where one may stop at any time:
    V_m(s, f) = max(0, p - charge + p V_{m-1}(s + 1, f) + (1 - p) V_{m-1}(s, f + 1)), with
    p = (s + 1) / (s + f + 2). Charges are a grid over [0, 1], and what lies between is linear.
    Indices are right where s + f + m <= horizon, which are all that a policy meets.
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
        # It falls with the charge: the last one at which it is positive, and the way from there.
        last = np.clip((gain > 0.0).sum(0) - 1, 0, charges - 2)[None]
        above = np.take_along_axis(gain, last, 0)[0]
        below = np.take_along_axis(gain, last + 1, 0)[0]
        indices[left, met, met] = charge[last[0]] + above / (above - below) / (charges - 1)
        values[:, :end, :end] = np.maximum(gain, 0.0)
    return indices


def gittins(horizon: int) -> Policy:
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
    """Probabilities drawn from what is known of each arm (Thompson 1933)."""
    del left
    return rng.beta(successes + 1.0, failures + 1.0)


def informed(probabilities: np.ndarray) -> Policy:
    """Who knows the probabilities [N, k]: a bound."""
    return lambda *_: probabilities


class Result(NamedTuple):
    """Mean return of a policy."""

    mean: float
    stderr: float


def play(
    policy: Policy, probabilities: np.ndarray, horizon: int, rng: np.random.Generator
) -> Result:
    """The policy on N bandits with these probabilities [N, k], for `horizon` pulls each."""
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
