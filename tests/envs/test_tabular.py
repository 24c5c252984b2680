"""Random MDPs: sampled episodes against exact expectations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metarl.envs.arrays.tabular import TabularMdp, mdp_of
from metarl.types import Workers

TASKS = [{"mdp": 5}, {"mdp": 2**31 + 3}]
UNIFORM = np.full((10, 5), 0.2)
NUMBERS = st.integers(0, 2**32 - 1)


def distribution(horizon=10):
    return TabularMdp("tabular-mdp", "", horizon)


def best_policy(task, horizon=10):
    """The optimal actions, one-hot [T, S, A], by backward induction."""
    transitions, rewards = mdp_of(task)
    values, actions = np.zeros(10), []
    for _ in range(horizon):
        ahead = rewards + transitions @ values  # [S, A]
        values = ahead.max(axis=-1)
        actions.append(ahead.argmax(axis=-1))
    return np.eye(5)[actions[::-1]]


def expected_return(task, policy, horizon=10):
    """The expected return of a policy [S, A], or [T, S, A] with one for each step."""
    transitions, rewards = mdp_of(task)
    total, present = 0.0, np.eye(10)[0]
    for step in np.broadcast_to(policy, (horizon, 10, 5)):
        joint = present[:, None] * step  # [S, A]
        total += float((joint * rewards).sum())
        present = np.einsum("sa,san->n", joint, transitions)
    return total


def episodes(policy, tasks, num, seed=0, horizon=10):
    """Observed states [T + 1, K, E], actions and rewards [T, K, E] of a policy [K, T, S, A]."""
    env = distribution(horizon).open(len(tasks), num, Workers(0))
    env.set_tasks(tasks)
    seeds = np.arange(len(tasks) * num, dtype=np.uint64).reshape(len(tasks), num)
    rng = np.random.default_rng(seed)
    obs, states, actions, rewards = env.reset(seeds), [], [], []
    for t in range(horizon):
        states.append(obs.argmax(-1))
        probabilities = policy[np.arange(len(tasks))[:, None], t, states[-1]]  # [K, E, A]
        draws = rng.random((len(tasks), num, 1))
        actions.append((probabilities.cumsum(-1) <= draws).sum(-1).clip(max=4))
        step = env.step(actions[-1][..., None])
        obs = step.obs
        rewards.append(step.rewards)
    states.append(obs.argmax(-1))
    return np.array(states), np.array(actions), np.array(rewards)


@pytest.mark.parametrize("kind", ["uniform", "best"])
def test_sampled_returns_agree_with_the_expectation(kind):
    policies = {
        "uniform": [np.broadcast_to(UNIFORM, (10, 10, 5)) for _ in TASKS],
        "best": [best_policy(task) for task in TASKS],
    }[kind]
    returns = episodes(np.array(policies), TASKS, 4000)[2].sum(0, dtype=float)
    for k, task in enumerate(TASKS):
        expected = expected_return(task, policies[k])
        stderr = returns[k].std() / np.sqrt(returns.shape[1])
        assert abs(returns[k].mean() - expected) <= 4 * stderr


def test_states_and_rewards_follow_the_matrices():
    """After one step, by counting: next states are P(0, a), rewards N(r(0, a), 1)."""
    policy = np.broadcast_to(UNIFORM, (2, 10, 10, 5))
    states, actions, rewards = episodes(policy, TASKS, 20_000, horizon=10)
    assert (states[0] == 0).all()
    for k, task in enumerate(TASKS):
        mdp = mdp_of(task)
        for action in range(5):
            rows = actions[0, k] == action
            found = np.bincount(states[1, k][rows], minlength=10) / rows.sum()
            expected = mdp.transitions[0, action]
            slack = 4 * np.sqrt(expected * (1 - expected) / rows.sum())
            assert (np.abs(found - expected) <= slack + 1e-3).all()
            noise = rewards[0, k][rows] - mdp.rewards[0, action]
            assert abs(noise.mean()) < 4 / np.sqrt(rows.sum())
            assert noise.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * rows.sum()))


def test_the_noise_of_a_reward_says_nothing_of_the_next_state():
    policy = np.broadcast_to(UNIFORM, (1, 10, 10, 5))
    states, actions, rewards = episodes(policy, TASKS[:1], 20_000)
    mdp = mdp_of(TASKS[0])
    noise = rewards - mdp.rewards[states[:-1], actions]
    for state in range(10):
        assert abs(np.corrcoef(noise.ravel(), (states[1:] == state).ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 0.01


@given(NUMBERS, st.integers(1, 3))
def test_the_best_return_by_the_bellman_equation(number, horizon):
    def value(mdp, state, left):
        later = [value(mdp, s, left - 1) for s in range(10)] if left > 1 else np.zeros(10)
        return max(mdp.rewards[state, a] + mdp.transitions[state, a] @ later for a in range(5))

    task = {"mdp": number}
    best = expected_return(task, best_policy(task, horizon), horizon)
    assert best == pytest.approx(value(mdp_of(task), 0, horizon))


@given(NUMBERS, st.integers(0, 2**32 - 1))
def test_no_policy_beats_the_best(number, seed):
    policy = np.random.default_rng(seed).dirichlet(np.full(5, 0.3), size=(10, 10))
    task = {"mdp": number}
    assert expected_return(task, policy) <= expected_return(task, best_policy(task)) + 1e-9


def test_an_mdp_has_the_papers_distribution():
    """Dirichlet(1): each probability is Beta(1, 9). Mean rewards: N(1, 1)."""
    mdps = [mdp_of({"mdp": number}) for number in range(200)]
    transitions = np.array([mdp.transitions for mdp in mdps])
    np.testing.assert_allclose(transitions.sum(-1), 1.0)
    assert transitions.mean() == pytest.approx(0.1)
    assert transitions.var() == pytest.approx(9 / (100 * 11), rel=0.05)
    rewards = np.array([mdp.rewards for mdp in mdps])
    assert rewards.mean() == pytest.approx(1.0, abs=0.04)
    assert rewards.std() == pytest.approx(1.0, abs=0.03)
    np.testing.assert_array_equal(mdp_of({"mdp": 7}).rewards, rewards[7])
    episode = np.random.Generator(np.random.PCG64(7))  # of a seed that happens to be the number
    assert not np.isclose(episode.dirichlet(np.ones(10)), transitions[7, 0, 0]).any()


def test_an_episode_is_the_same_alone_and_among_others():
    def play(tasks, seeds, actions):
        env = distribution().open(len(seeds), seeds.shape[1], Workers(0))
        env.set_tasks(tasks)
        env.reset(seeds)
        steps = [env.step(action) for action in actions]
        return np.array([s.rewards for s in steps]), np.array([s.obs for s in steps])

    seeds = np.arange(12, dtype=np.uint64).reshape(2, 6)
    actions = np.random.default_rng(0).integers(5, size=(10, 2, 6, 1))
    rewards, obs = play(TASKS, seeds, actions)
    alone_rewards, alone_obs = play(TASKS[1:], seeds[1:, 4:5], actions[:, 1:, 4:5])
    np.testing.assert_array_equal(rewards[:, 1:, 4:5], alone_rewards)
    np.testing.assert_array_equal(obs[:, 1:, 4:5], alone_obs)


def test_rounding_never_leaves_the_states():
    """Ten probabilities may add up to a little less than the largest draw, 1 - 2^-53."""
    tasks = [{"mdp": number} for number in range(20)]
    env = distribution().open(20, 1, Workers(0))
    env.set_tasks(tasks)
    env.reset(np.zeros((20, 1), np.uint64))
    env._shares[:] = np.nextafter(1.0, 0.0)
    for _ in range(12):  # two of them after the end, ignored and not refused
        assert env.step(np.zeros((20, 1, 1), int)).obs.argmax(-1).min() == 9


@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.sampled_from(["random", "stratified"]))
def test_no_number_is_in_both_splits(seed, num, draw):
    rng = np.random.default_rng(seed)
    for split in ("train", "test"):
        numbers = [task["mdp"] for task in distribution().sample(num, rng, split, draw)]
        assert all((number % 4 == 3) == (split == "test") for number in numbers)
        assert all(0 <= number < 2**32 for number in numbers)
