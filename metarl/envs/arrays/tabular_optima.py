"""Known policies for random MDPs: the optimum if the MDP is told, and two that learn it.

Both learners know the prior from which MDPs are drawn (tabular.py): transitions Dirichlet(1, ..),
mean rewards N(1, 1) seen with noise N(0, 1). Before each episode they solve one MDP for the
horizon and follow its policy: `psrl` one drawn from the posterior (Strens 2000; Osband, Russo and
Van Roy 2013), `greedy` that of the posterior's means. arXiv:1611.02779, table 2, has both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from metarl.envs.arrays.tabular import ACTIONS, STATES, Mdp, TabularMdp, mdp_of
from metarl.types import Task, Workers


def solved(mdps: Mdp, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Solves MDPs [N, S, A, ...] by backward induction.

    Returns:
        The values of each state before the first step, [N, S], and the best actions, [T, N, S].
    """
    values = np.zeros(mdps.rewards.shape[:-1])
    actions = np.zeros((horizon, *values.shape), np.int64)
    for step in reversed(range(horizon)):
        ahead = mdps.rewards + np.einsum("nsat,nt->nsa", mdps.transitions, values)
        values, actions[step] = ahead.max(axis=-1), ahead.argmax(axis=-1)
    return values, actions


def stacked(tasks: Sequence[Task]) -> Mdp:
    """Returns the MDPs of tasks with a leading axis, [N, S, A, ...]."""
    mdps = [mdp_of(task) for task in tasks]
    return Mdp(*(np.stack(part) for part in zip(*mdps, strict=True)))


def told(tasks: Sequence[Task], horizon: int) -> np.ndarray:
    """Returns the expected return of an episode of the optimal policy that knows the MDP, [N]."""
    return solved(stacked(tasks), horizon)[0][:, 0]


def learned(
    tasks: Sequence[Task],
    horizon: int,
    episodes: int,
    by: Literal["psrl", "greedy"],
    rng: np.random.Generator,
) -> np.ndarray:
    """Plays a trial of each task and returns the returns, [episodes, N]."""
    rows, shape = np.arange(len(tasks)), (len(tasks), STATES, ACTIONS)
    visits, paid = np.zeros((*shape, STATES)), np.zeros(shape)
    found = np.zeros((episodes, len(tasks)))
    env = TabularMdp("tabular-mdp", "", horizon).open(len(tasks), 1, Workers(0))
    env.set_tasks(tasks)
    for episode in range(episodes):
        actions = solved(_believed(visits, paid, by, rng), horizon)[1]
        seeds = rng.integers(2**63, size=(len(tasks), 1), dtype=np.uint64)
        state = env.reset(seeds)[:, 0].argmax(axis=-1)
        for step in range(horizon):
            action = actions[step, rows, state]
            result = env.step(action[:, None, None])
            reached = result.obs[:, 0].argmax(axis=-1)
            visits[rows, state, action, reached] += 1.0
            paid[rows, state, action] += result.rewards[:, 0]
            found[episode] += result.rewards[:, 0]
            state = reached
    return found


def _believed(visits: np.ndarray, paid: np.ndarray, by: str, rng: np.random.Generator) -> Mdp:
    """Returns MDPs drawn from the posteriors, or those of their means."""
    counts = visits.sum(axis=-1)
    means, weights = (1.0 + paid) / (1.0 + counts), 1.0 + visits
    if by == "greedy":
        return Mdp(weights / weights.sum(axis=-1, keepdims=True), means)
    gammas = rng.standard_gamma(weights)
    rewards = means + rng.standard_normal(means.shape) / np.sqrt(1.0 + counts)
    return Mdp(gammas / gammas.sum(axis=-1, keepdims=True), rewards)
