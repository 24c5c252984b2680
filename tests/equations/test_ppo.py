"""Advantages with bootstrapped ends and the value's loss, against Stable-Baselines3's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.utils import explained_variance as sb3_explained_variance

from metarl.equations.ppo import explained_variance, following_values, value_loss
from metarl.equations.returns import gae

STEPS, EPISODES = 9, 4


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("gae_lambda", [0.0, 0.9, 1.0])
def test_advantages_and_targets_are_stable_baselines3s(gae_lambda):
    """A buffer of one episode a column: two reach their time limit, two terminate."""
    rewards, values = numbers(STEPS, EPISODES), numbers(STEPS, EPISODES, seed=1)
    final_values, dones = numbers(EPISODES, seed=2), np.array([False, True, False, True])
    space = Box(-1, 1, (1,))
    buffer = RolloutBuffer(STEPS, space, space, "cpu", gae_lambda, 0.95, EPISODES)
    nothing = np.zeros((EPISODES, 1), np.float32)
    for t in range(STEPS):
        starts = np.full(EPISODES, t == 0)
        buffer.add(nothing, nothing, rewards[t].numpy(), starts, values[t], values[t])
    buffer.compute_returns_and_advantage(final_values, dones)

    ended = torch.zeros(STEPS, EPISODES, dtype=torch.bool)
    ended[-1] = True
    terminated = ended & torch.from_numpy(dones)
    after = following_values(values, final_values, ended)
    advantages = gae(rewards, values, after, terminated, ended, 0.95, gae_lambda)
    torch.testing.assert_close(advantages, torch.from_numpy(buffer.advantages))
    torch.testing.assert_close(advantages + values, torch.from_numpy(buffer.returns))


def test_the_value_beyond_an_early_end_is_that_of_the_final_observation():
    values = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    ended = torch.tensor([[False, False], [True, False], [False, True]])
    after = following_values(values, torch.tensor([7.0, 8.0]), ended)
    assert after[:2, 0].tolist() == [2.0, 7.0]
    assert after[:, 1].tolist() == [20.0, 30.0, 8.0]


def test_value_loss_and_explained_variance_are_stable_baselines3s():
    """On tasks of 5 valid samples each; the padding of the second task counts for nothing."""
    values, targets = numbers(2, 8), numbers(2, 8, seed=1)
    values = 0.7 * targets + 0.3 * values
    weights = torch.zeros(2, 8)
    weights[:, :5] = 0.2
    targets[:, 5:] = 1e6
    for k in range(2):
        valid, wanted = values[k, :5], targets[k, :5]
        found = value_loss(values, targets, weights)[k]
        torch.testing.assert_close(found, F.mse_loss(wanted, valid))
        expected = sb3_explained_variance(valid.numpy(), wanted.numpy())
        assert float(explained_variance(values, targets, weights)[k]) == pytest.approx(
            expected, rel=1e-5
        )
