"""The Bayes-optimal policy of grid navigation and its exact expected return.

Before the goal is found each step shows one thing: the cell that was reached is not the goal. So
what a policy does until then does not branch. It is a walk, whose episodes begin anew in the
corner. Once the goal is found the best is known too: to stay there, which pays the most that a step
can pay, and to take a shortest way in each later episode. A walk's expected return is therefore a
sum over the goals, each with the payoff of the step that first reaches it, and the Bayes-optimal
policy is the walk with the largest sum. A walk's worth after some steps depends on no more than the
cell, the set of goals reached and the sum so far. So dynamic programming over these states, with
the largest sum of each, is exact. A state is dropped if an upper bound of its final sum is below
the sum of a walk that is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from metarl.envs.arrays.grid_navigation import ELSEWHERE, MOVES, ON_GOAL, SIDE, goals_of
from metarl.types import StepResult

BEAM = 300
"""States kept in each step of the search for a good walk, which is the bound of the exact one."""


class Optimum(NamedTuple):
    """Bayes-optimal policy of a trial."""

    walk: np.ndarray  # [episodes, horizon] actions until the goal is found
    returns: np.ndarray  # [episodes] expected undiscounted return of each episode
    found: np.ndarray  # [goals] step of the trial that first reaches each goal, from 1; 0: none

    @property
    def total(self) -> float:
        return float(self.returns.sum())


class Payoffs(NamedTuple):
    """Returns of a trial by when the goal is found."""

    side: int
    horizon: int
    episodes: int

    @property
    def goals(self) -> np.ndarray:
        return np.array(goals_of(self.side))

    def known(self) -> np.ndarray:
        """Returns the return of an episode whose goal is known, [goals]."""
        steps = self.goals.sum(axis=1)
        return self.since(np.minimum(steps, self.horizon + 1))

    def since(self, step: np.ndarray | int) -> np.ndarray:
        """Returns an episode's return if the goal is reached in its step `step` and then kept."""
        before = np.asarray(step) - 1.0
        return ELSEWHERE * before + ON_GOAL * (self.horizon - before)

    def gain(self, episode: int, step: np.ndarray | int) -> np.ndarray:
        """Returns the trial's return over that of never finding the goal, [..., goals], if the
        goal is found in step `step` [...] of `episode`, both counted from 1 and 0."""
        missed = ELSEWHERE * self.horizon
        now = np.asarray(self.since(step) - missed)[..., None]
        return now + (self.episodes - 1 - episode) * (self.known() - missed)


class Layer(NamedTuple):
    """States after a step: the largest sum of each, and how it is reached."""

    keys: np.ndarray  # [N] (set of goals reached as bits) x cells + cell
    sums: np.ndarray  # [N]
    parents: np.ndarray  # [N] index in the layer before
    actions: np.ndarray  # [N]


def bayes_optimum(episodes: int, horizon: int = 15, side: int = SIDE) -> Optimum:
    """Returns the policy with the largest expected return of a trial of so many episodes."""
    payoffs = Payoffs(side, horizon, episodes)
    good = _search(payoffs, BEAM, -np.inf)
    best = _search(payoffs, None, good[-1].sums.max() - 1e-9)
    walk = _walk(best).reshape(episodes, horizon)
    return Optimum(walk, *_outcome(payoffs, walk))


def _search(payoffs: Payoffs, beam: int | None, least: float) -> list[Layer]:
    """Returns the layers of all steps; with a `beam` only so many states of each are followed."""
    cells = payoffs.side**2
    nothing = np.zeros(1, np.int64)
    layers = [Layer(nothing, np.zeros(1), nothing, nothing)]
    moves = _moves(payoffs.side)
    for episode in range(payoffs.episodes):
        for step in range(1, payoffs.horizon + 1):
            layer = _after(layers[-1], moves, payoffs, episode, step)
            bound = layer.sums + _at_most(payoffs, layer.keys // cells, episode, step)
            kept = np.flatnonzero(bound >= least)
            if beam and len(kept) > beam:
                kept = kept[np.argsort(-bound[kept], kind="stable")[:beam]]
            layers.append(Layer(*(part[kept] for part in layer)))
    return layers


def _moves(side: int) -> np.ndarray:
    """Returns the cell that each action reaches from each cell, [cells, actions]."""
    places = np.stack(np.divmod(np.arange(side * side), side), axis=1)
    reached = np.clip(places[:, None] + MOVES, 0, side - 1)
    return reached[..., 0] * side + reached[..., 1]


def _after(layer: Layer, moves: np.ndarray, payoffs: Payoffs, episode: int, step: int) -> Layer:
    """Returns the states that one step reaches from those of a layer."""
    cells = payoffs.side**2
    sets, cell = np.divmod(layer.keys, cells)
    if step == 1:
        cell = np.zeros_like(cell)  # each episode begins in the corner
    reached = moves[cell]  # [N, actions]
    number = np.full(cells, -1)
    number[payoffs.goals[:, 0] * payoffs.side + payoffs.goals[:, 1]] = np.arange(len(payoffs.goals))
    goal = number[reached]
    bit = np.where(goal >= 0, 1 << np.maximum(goal, 0), 0)
    new = (bit != 0) & (sets[:, None] & bit == 0)
    gains = payoffs.gain(episode, step)[np.maximum(goal, 0)]
    sums = (layer.sums[:, None] + np.where(new, gains, 0.0)).ravel()
    keys = ((sets[:, None] | bit) * cells + reached).ravel()
    if step == payoffs.horizon:
        keys = keys // cells * cells
    order = np.lexsort((-sums, keys))
    first = order[np.append(True, np.diff(keys[order]) != 0)]
    parents, actions = np.divmod(first, moves.shape[1])
    return Layer(keys[first], sums[first], parents, actions)


def _at_most(payoffs: Payoffs, sets: np.ndarray, episode: int, step: int) -> np.ndarray:
    """Returns upper bounds of what the goals outside the sets add after this step, [N].

    No step finds two goals. So the goals that are left are at best found in the next steps, one in
    each, and after the end of the episode from the first step of the next one on. Those that are
    found in this episode have one more episode with a known goal, at best the goals worth most in
    it. Goals that would be left after the next episode too count as if they were found in it.
    """
    left = [(sets >> goal) & 1 == 0 for goal in range(len(payoffs.goals))]
    known = payoffs.known() - ELSEWHERE * payoffs.horizon
    rest = payoffs.horizon - step
    count = np.sum(left, axis=0)
    now, later = np.minimum(count, rest), payoffs.episodes - 1 - episode
    worth = payoffs.since(1 + np.arange(payoffs.horizon)) - ELSEWHERE * payoffs.horizon
    total = np.append(0.0, np.cumsum(worth[step:]))[now]
    if later:
        in_next = np.cumsum(np.resize(worth, len(left)))
        total = total + np.append(0.0, in_next)[count - now]
    places = now.copy()
    for goal in np.argsort(-known, kind="stable"):
        here = left[goal]
        soon = here & (places > 0)
        total = total + known[goal] * np.where(soon, later, np.where(here, max(later - 1, 0), 0))
        places -= soon
    return total


def _walk(layers: list[Layer]) -> np.ndarray:
    """Returns the actions of the walk with the largest sum."""
    place, actions = int(layers[-1].sums.argmax()), []
    for layer in layers[:0:-1]:
        actions.append(layer.actions[place])
        place = layer.parents[place]
    return np.array(actions[::-1])


def _outcome(payoffs: Payoffs, walk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the expected return of each episode, and the step that finds each goal."""
    goals, known = payoffs.goals, payoffs.known()
    found = np.zeros(len(goals), np.int64)
    returns = np.full((len(goals), payoffs.episodes), ELSEWHERE * payoffs.horizon)
    for episode, actions in enumerate(walk):
        for step, place in enumerate(_places(actions, payoffs.side), start=1):
            for goal in np.flatnonzero((goals == place).all(axis=1) & (found == 0)):
                found[goal] = episode * payoffs.horizon + step
                returns[goal, episode] = payoffs.since(step)
                returns[goal, episode + 1 :] = known[goal]
    return returns.mean(axis=0), found


def _places(actions: np.ndarray, side: int) -> Iterator[np.ndarray]:
    place = np.zeros(2, np.int64)
    for action in actions:
        place = np.clip(place + MOVES[action], 0, side - 1)
        yield place


class Searcher:
    """Plays a Bayes-optimal policy in K x E trials; implements Scripted (scripted.py)."""

    def __init__(self, optimum: Optimum):
        self._walk, self._episode = optimum.walk, -1

    def begin(self, obs: np.ndarray) -> None:
        if self._episode < 0:
            self._goal = np.full(obs.shape, -1, np.int64)
        self._episode += 1
        self._step, self._place = 0, obs.astype(np.int64)

    def act(self) -> np.ndarray:
        """Returns the walk's action, or a step towards the goal where that is known."""
        known = (self._goal >= 0).all(axis=-1)
        right = self._goal[..., 0] > self._place[..., 0]
        left = self._goal[..., 0] < self._place[..., 0]
        up = self._goal[..., 1] > self._place[..., 1]
        down = self._goal[..., 1] < self._place[..., 1]
        towards = np.select([up, right, down, left], [1, 2, 3, 4], 0)
        action = np.where(known, towards, self._walk[self._episode, self._step])
        self._step += 1
        return action[..., None]

    def see(self, step: StepResult) -> None:
        self._place = step.obs.astype(np.int64)
        there = (step.rewards == np.float32(ON_GOAL))[..., None]
        self._goal = np.where(there, self._place, self._goal)
