"""Known policies of random MDPs: bounds, and the figures of the paper that has them."""

from __future__ import annotations

import numpy as np
import pytest

from metarl.envs.arrays.tabular import TabularMdp, mdp_of
from metarl.envs.arrays.tabular_optima import learned, solved, stacked, told

TASKS = TabularMdp("tabular-mdp", "", 10).sample(400, np.random.default_rng(0), "test")


def test_one_step_is_the_largest_mean_and_two_look_ahead():
    mdps = stacked(TASKS[:5])
    values, actions = solved(mdps, 1)
    np.testing.assert_allclose(values, mdps.rewards.max(-1))
    transitions, rewards = mdp_of(TASKS[0])
    by_hand = (rewards[0] + transitions[0] @ rewards.max(-1)).max()
    assert solved(mdps, 2)[0][0, 0] == pytest.approx(by_hand)
    assert actions.shape == (1, 5, 10)


def test_learners_lie_between_chance_and_who_is_told():
    """Sums of ten episodes, means over 400 MDPs with a standard error of about 1.3. In the paper
    posterior sampling gets 138.1 (arXiv:1611.02779, table 2); the optimum is 218."""
    rng = np.random.default_rng(1)
    psrl, greedy = (learned(TASKS, 10, 10, by, rng) for by in ("psrl", "greedy"))
    best = 10 * told(TASKS, 10).mean()
    assert best == pytest.approx(218, abs=4)
    assert psrl.sum(0).mean() == pytest.approx(136, abs=5)
    assert psrl.sum(0).mean() < greedy.sum(0).mean() < 160
    assert psrl[0].mean() < psrl[-1].mean() - 4
