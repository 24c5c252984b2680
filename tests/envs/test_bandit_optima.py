"""Known policies of Bernoulli bandits: by hand, by enumeration, and against the true optimum."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest

from metarl.envs.arrays.bandit_optima import (
    Policy,
    gittins,
    gittins_indices,
    informed,
    play,
    thompson,
)

Counts = tuple[tuple[int, int], ...]
"""Successes and failures of each arm."""


def after(counts: Counts, arm: int, paid: bool) -> Counts:
    s, f = counts[arm]
    return (*counts[:arm], (s + paid, f + (not paid)), *counts[arm + 1 :])


def pull(value, counts: Counts, arm: int, left: int) -> float:
    """Expected return of pulling this arm, and from then on `value(counts, left)`."""
    s, f = counts[arm]
    p = (s + 1) / (s + f + 2)
    won, lost = (value(after(counts, arm, paid), left - 1) for paid in (True, False))
    return p * (1.0 + won) + (1.0 - p) * lost


@cache
def optimum(counts: Counts, left: int) -> float:
    return max(pull(optimum, counts, arm, left) for arm in range(len(counts))) if left else 0.0


def expected(policy: Policy, counts: Counts, left: int) -> float:
    """Returns the expected return of a policy without chance, over all that may happen."""
    if not left:
        return 0.0
    known = np.array([counts])
    scores = policy(known[..., 0], known[..., 1], left, np.random.default_rng(0))
    arm = int(scores.argmax())
    return pull(lambda c, m: expected(policy, c, m), counts, arm, left)


def test_indices_by_hand():
    """With one pull left the mean; of an unknown arm with two, 1/2 - c + (2/3 - c)/2 = 0."""
    indices = gittins_indices(3)
    assert indices[1, 0, 0] == pytest.approx(1 / 2, abs=1e-6)
    assert indices[1, 1, 1] == pytest.approx(1 / 2, abs=1e-6)
    assert indices[1, 2, 0] == pytest.approx(3 / 4, abs=1e-6)
    assert indices[2, 0, 0] == pytest.approx(5 / 9, abs=1e-6)


@pytest.mark.parametrize(("s", "f"), [(0, 0), (1, 0), (0, 2)])
def test_indices_are_the_best_ratio_of_pay_to_pulls(s, f):
    """Over all rules when to stop within three pulls: sup E[pay] / E[pulls]."""
    places = [(s + 1, f), (s, f + 1), (s + 2, f), (s + 1, f + 1), (s, f + 2)]

    def pay_and_pulls(goes_on, s: int, f: int, left: int) -> np.ndarray:
        if not left or not goes_on.get((s, f), True):
            return np.zeros(2)
        p = (s + 1) / (s + f + 2)
        won, lost = (pay_and_pulls(goes_on, *c, left - 1) for c in ((s + 1, f), (s, f + 1)))
        return np.array([p, 1.0]) + p * won + (1 - p) * lost

    rules = [dict(zip(places, bits, strict=True)) for bits in product([False, True], repeat=5)]
    found = [pay_and_pulls(rule, s, f, 3) for rule in rules]
    best = max(pay / pulls for pay, pulls in found)
    assert gittins_indices(6)[3, s, f] == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize(("arms", "pulls"), [(1, 4), (2, 2), (2, 7), (3, 5)])
def test_the_index_policy_against_the_optimum(arms, pulls):
    """Within a thousandth of it, never above; one arm pays half, two arms in two pulls 13/12."""
    unknown = ((0, 0),) * arms
    best, found = optimum(unknown, pulls), expected(gittins(pulls), unknown, pulls)
    assert 0.999 * best <= found <= best + 1e-12
    exact = {(1, 4): 2.0, (2, 2): 13 / 12}
    assert found == pytest.approx(exact.get((arms, pulls), found), abs=1e-12)


def test_play_gives_expected_returns():
    """Exact ones, within four standard errors: the index policy's, Thompson's by hand 37/36."""
    rng = np.random.default_rng(0)
    probabilities = rng.random((40_000, 2))
    for policy, pulls, exact in (
        (gittins(7), 7, expected(gittins(7), ((0, 0), (0, 0)), 7)),
        (thompson, 2, 37 / 36),
        (informed(probabilities), 3, 3 * 2 / 3),
    ):
        found = play(policy, probabilities, pulls, rng)
        assert abs(found.mean - exact) < 4 * found.stderr
        assert found.stderr < 0.02
