"""T-mazes and key to door: their rules by hand, and what can be reached without a memory."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from metarl.envs import catalogue
from metarl.envs.arrays.memory_optima import (
    KeyBearer,
    MazeWalker,
    key_to_door_best,
    t_maze_best,
    without_memory,
)
from metarl.envs.arrays.scripted import Memoryless, play
from metarl.errors import UserError
from metarl.types import Workers

ARMS = [{"arm": 1}, {"arm": -1}]
COLOURS = [{"colour": 1}, {"colour": -1}]
R, U, L, D = range(4)


def maze(name, horizon, arm, actions):
    """Returns the observations, the first included, and the rewards of one walk."""
    env = catalogue.make(name, horizon).open(1, 1, Workers(0))
    env.set_tasks([{"arm": arm}])
    obs = [env.reset(np.zeros((1, 1), np.uint64))]
    steps = [env.step(np.full((1, 1, 1), action)) for action in actions]
    seen = np.array([*obs, *(step.obs for step in steps)])[:, 0, 0]
    return seen.tolist(), [round(float(step.rewards[0, 0]), 4) for step in steps]


def test_a_passive_maze_by_hand():
    """Corridor of 3 steps. The cue is seen at first alone; who is late pays 1/3 a step."""
    obs, rewards = maze("t-maze:passive", 4, -1, [R, R, R, D])
    assert obs == [[0, -1], [0, 0], [0, 0], [1, 0], [1, -1]]
    assert rewards == [0, 0, 0, 1]
    obs, rewards = maze("t-maze:passive", 4, 1, [R, L, R, U])
    assert obs == [[0, 1], [0, 0], [0, 0], [0, 0], [0, 0]], "the cue is not shown again"
    assert rewards == [0, -0.3333, -0.3333, 0]
    assert maze("t-maze:passive", 4, 1, [R, R, R, D])[1] == [0, 0, 0, 0]


def test_an_active_maze_by_hand():
    """The cue is a step to the left of the start, and two steps of grace are for it."""
    obs, rewards = maze("t-maze:active", 6, 1, [L, R, R, R, R, U])
    assert obs == [[0, 0], [0, 1], [0, 0], [0, 0], [0, 0], [1, 0], [1, 1]]
    assert rewards == [0, 0, 0, 0, 0, 1]
    obs, rewards = maze("t-maze:active", 6, 1, [R, R, R, U, U, L])
    assert obs[3:] == [[1, 0], [1, 1], [1, 1], [1, 1]], "walls stop, and the arm is kept"
    assert rewards == [0, 0, 0, 0, 0, 1]
    assert maze("t-maze:active", 6, 1, [U] * 6)[1] == [0, 0, -0.3333, -0.3333, -0.3333, 0]


@pytest.mark.parametrize(("name", "detour"), [("t-maze:passive", 0), ("t-maze:active", 1)])
@pytest.mark.parametrize("length", [1, 7, 50, 1000])
def test_who_remembers_the_cue_gets_it_all(name, detour, length):
    distribution = catalogue.make(name, length + 1 + 2 * detour)
    returns = play(distribution, MazeWalker(detour), ARMS)
    assert (returns == t_maze_best()).all()


@pytest.mark.parametrize("name", ["t-maze:passive", "t-maze:active"])
@pytest.mark.parametrize("length", [1, 2, 4])
def test_no_memoryless_policy_gets_more_than_half(name, length):
    """All 4^6 deterministic ones, each in an episode slot of its own, and some thousand that choose
    by chance, of which each plays both arms 200 times."""
    seen = [(0, 0), (0, 1), (0, -1), (1, 0), (1, 1), (1, -1)]
    number = np.array(list(product(range(4), repeat=len(seen))))  # [policies, observations]

    def chosen(obs):
        which = np.array([(obs == np.array(one)).all(-1) for one in seen]).argmax(0)
        return number[np.arange(len(number)), which][..., None]

    distribution = catalogue.make(name, length + 1 + 2 * (name == "t-maze:active"))
    returns = play(distribution, Memoryless(chosen), ARMS, trials=len(number))[0]
    assert returns.mean(0).max() == pytest.approx(t_maze_best(memory=False))


def test_chance_does_not_help_without_memory():
    """Expected returns of 400 random stochastic policies, by 2,000 episodes each of both arms."""
    rng = np.random.default_rng(0)
    distribution, trials = catalogue.make("t-maze:active", 5), 100
    for _ in range(40):
        chances = rng.dirichlet(np.full(4, 0.3), size=(2, 3)).cumsum(-1)

        def chosen(obs, chances=chances):
            own = chances[obs[..., 0].astype(int), obs[..., 1].astype(int) + 1]
            return (own <= rng.random((*obs.shape[:2], 1))).sum(-1).clip(max=3)[..., None]

        found = play(distribution, Memoryless(chosen), ARMS * 10, trials)[0]
        assert found.mean() <= 0.5 + 4 * 0.5 / np.sqrt(found.size)


@pytest.mark.parametrize(
    ("name", "horizon"), [("t-maze:passive", 1), ("t-maze:active", 3), ("key-to-door", 4)]
)
def test_a_horizon_without_room_is_refused_with_what_to_give(name, horizon):
    with pytest.raises(UserError, match=f"a horizon of {horizon} steps leaves .*\nset --env.hor"):
        catalogue.make(name, horizon)


def key(actions, horizon, colour=1, seed=5):
    env = catalogue.make("key-to-door", horizon).open(1, 1, Workers(0))
    env.set_tasks([{"colour": colour}])
    obs = [env.reset(np.full((1, 1), seed, np.uint64))]
    steps = [env.step(np.full((1, 1, 1), action + 1)) for action in actions]
    return np.array([*obs, *(s.obs for s in steps)])[:, 0, 0], [s.rewards[0, 0] for s in steps]


def test_a_key_is_taken_shown_once_and_opens_its_door():
    side = int(key([], 8)[0][0, 4])
    for colour in (-1, 1):
        obs, rewards = key([side, side, 0, 0, 0, 0, 0, colour], 8, colour)
        assert obs[:5, 3].tolist() == [0, side / 2, side, side, 0]
        assert obs[:5, 4].tolist() == [side, side, 0, 0, 0]
        assert obs[:, 5].tolist() == [0, 0, colour, 0, 0, 0, 0, 0, 0]
        assert obs[:, :3].argmax(1).tolist() == [0] * 4 + [1] * 3 + [2] * 2
        assert rewards[-1] == 1.0
        assert key([side, side, 0, 0, 0, 0, 0, -colour], 8, colour)[1][-1] == 0.0
        assert key([0, side, 0, 0, 0, 0, 0, colour], 8, colour)[1][-1] == 0.0, "it has no key"


def test_an_apple_is_paid_to_who_takes_its_side():
    obs, _ = key([0] * 105, 105)
    apples = obs[4:104, 6]
    assert set(apples) == {-1, 0, 1}
    _, rewards = key([0] * 4 + apples.astype(int).tolist() + [0], 105)
    np.testing.assert_allclose(rewards[4:104], 0.1 * (apples != 0), rtol=1e-6)
    _, rewards = key([0] * 4 + (-apples).astype(int).tolist() + [0], 105)
    assert sum(rewards) == 0.0


def test_a_key_that_is_taken_last_shows_no_colour():
    """Else the doors' observation would tell it where there are no apples."""
    side = int(key([], 5)[0][0, 4])
    obs, rewards = key([0, 0, side, side, 1], 5)
    assert (obs[:, 5] == 0).all()
    assert rewards[-1] == 1.0


@pytest.mark.parametrize("length", [0, 60])
def test_key_to_door_pays_what_is_said(length):
    """Within four standard errors, of 4,000 episodes; the apples' chance is the same in both."""
    distribution = catalogue.make("key-to-door", length + 5)
    error = 4 * 0.1 * np.sqrt(0.25 * length / 4000)
    best = play(distribution, KeyBearer(), COLOURS, 2000)[0]
    assert abs(best.mean() - key_to_door_best(length)) <= error
    guess = Memoryless(lambda obs: (without_memory(obs) + 1).astype(int)[..., None])
    found = play(distribution, guess, COLOURS, 2000)[0].mean()
    assert abs(found - key_to_door_best(length, memory=False)) <= error


def test_nothing_that_a_memoryless_policy_sees_at_the_doors_depends_on_the_colour(rng):
    """After random actions, both colours show the same observations, but when a key is taken."""
    actions = rng.integers(3, size=(15, 1, 50, 1))
    shown = []
    for colour in (-1, 1):
        env = catalogue.make("key-to-door", 15).open(1, 50, Workers(0))
        env.set_tasks([{"colour": colour}])
        env.reset(np.arange(50, dtype=np.uint64)[None])
        shown.append(np.array([env.step(action).obs for action in actions]))
    assert (shown[0][4:] == shown[1][4:]).all()
    assert (shown[0][:4, ..., 5] == -shown[1][:4, ..., 5]).all()
