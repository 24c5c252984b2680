"""Returns and advantages: by hand, against Stable-Baselines3, and identities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.buffers import RolloutBuffer

from metarl.equations.returns import discounted_returns, gae, standardize


def episodes(steps=30, count=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    rewards = torch.randn(steps, count, generator=g)
    values = torch.randn(steps + 1, count, generator=g)
    terminated = torch.rand(steps, count, generator=g) < 0.1
    truncated = (torch.rand(steps, count, generator=g) < 0.1) & ~terminated
    return rewards, values, terminated, truncated


def test_discounted_returns_by_hand():
    """1 + 0.5 * 2 + 0.25 * 4 = 3; the reward after the end belongs to another episode."""
    rewards = torch.tensor([[1.0], [2.0], [4.0], [100.0]])
    ended = torch.tensor([[False], [False], [True], [True]])
    assert discounted_returns(rewards, ended, 0.5).flatten().tolist() == [3.0, 4.0, 4.0, 100.0]


def test_gae_tells_the_two_endings_apart():
    """One step, value 2, next value 10: terminated 1 - 2, truncated 1 + 0.5 * 10 - 2."""
    one = torch.ones(1, 2)
    terminated = torch.tensor([[True, False]])
    ended = torch.tensor([[True, True]])
    found = gae(one, 2 * one, 10 * one, terminated, ended, 0.5, 0.9)
    assert found.tolist() == [[-1.0, 4.0]]


def test_gae_equals_stable_baselines3():
    """On the same rollout with terminations (their buffer knows no truncation)."""
    rewards, values, terminated, _ = episodes()
    steps, count = rewards.shape
    buffer = RolloutBuffer(steps, Box(-1, 1, (1,)), Box(-1, 1, (1,)), "cpu", 0.95, 0.9, count)
    starts = np.zeros(count)
    for t in range(steps):
        buffer.add(
            np.zeros((count, 1)), np.zeros((count, 1)), rewards[t].numpy(), starts,
            values[t], torch.zeros(count),
        )  # fmt: skip
        starts = terminated[t].numpy().astype(float)
    buffer.compute_returns_and_advantage(values[-1], starts)
    ours = gae(rewards, values[:-1], values[1:], terminated, terminated, 0.9, 0.95)
    np.testing.assert_allclose(ours.numpy(), buffer.advantages, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ending", ["terminated", "truncated"])
def test_gae_with_lambda_one_is_return_minus_value(ending):
    """sum of discounted rewards (+ the discounted bootstrap where truncated) minus the value."""
    rewards, values, terminated, truncated = episodes()
    terminated = terminated | truncated if ending == "terminated" else terminated & False
    ended = terminated | truncated
    ended[-1] = True
    terminated[-1] = ending == "terminated"
    next_values = values[1:]
    bootstrapped = rewards + 0.9 * next_values * (ended & ~terminated)
    expected = discounted_returns(bootstrapped, ended, 0.9) - values[:-1]
    found = gae(rewards, values[:-1], next_values, terminated, ended, 0.9, 1.0)
    torch.testing.assert_close(found, expected)


def test_a_leading_task_axis_is_free():
    rewards, values, terminated, truncated = episodes()
    ended = terminated | truncated
    one = gae(rewards, values[:-1], values[1:], terminated, ended, 0.9, 0.95)
    rewards, before, after, terminated, ended = (
        torch.stack([x, x.flip(1)]) for x in (rewards, values[:-1], values[1:], terminated, ended)
    )
    two = gae(rewards, before, after, terminated, ended, 0.9, 0.95)
    torch.testing.assert_close(two, torch.stack([one, one.flip(1)]))


def test_standardize_divides_by_the_deviation_and_skips_padding():
    """Values 1 and 5 have mean 3 and deviation 2 (not variance 4); the third has no weight."""
    weights = torch.tensor([0.5, 0.5, 0.0])
    found = standardize(torch.tensor([1.0, 5.0, 1e6]), weights)
    torch.testing.assert_close(found, torch.tensor([-1.0, 1.0, 0.0]))
