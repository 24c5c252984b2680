"""Advantages with bootstrapped ends and the value's loss, against Stable-Baselines3's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.utils import explained_variance as sb3_explained_variance

from metarl.equations.ppo import (
    clipped_value_loss,
    explained_variance,
    following_values,
    value_loss,
)
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


def test_a_clipped_value_loss_takes_the_larger_of_two():
    """Targets are 1 and values came from 0. Within the clip, and where V moved away from the
    target, the loss is that of V; where V moved further than the clip, it is that at the clip, as
    it is larger, and has no gradient."""
    values = torch.tensor([0.1, -0.5, 0.8], dtype=torch.float64, requires_grad=True)
    targets, before, weights = torch.ones(3), torch.zeros(3), torch.full((3,), 1 / 3)
    found = clipped_value_loss(values, targets, weights, before, 0.2, 0.0)
    assert found.item() == pytest.approx((0.9**2 + 1.5**2 + 0.8**2) / 3)
    (gradient,) = torch.autograd.grad(found, values)
    assert gradient.tolist() == pytest.approx([-2 * 0.9 / 3, -2 * 1.5 / 3, 0.0])
    values = values.detach()
    plain = clipped_value_loss(values, targets, weights, before, 0.0, 0.0)
    assert plain.item() == pytest.approx(float(value_loss(values, targets, weights)))


def test_a_huber_loss_is_twice_torchs():
    """torch's has a factor 1/2, so that its square's slope is the error."""
    g = torch.Generator().manual_seed(0)
    values, targets = (3 * torch.randn(50, generator=g, dtype=torch.float64) for _ in range(2))
    weights = torch.full((50,), 1 / 50, dtype=torch.float64)
    found = clipped_value_loss(values, targets, weights, targets, 0.0, 0.7)
    expected = 2 * torch.nn.functional.huber_loss(values, targets, delta=0.7)
    assert float(found) == pytest.approx(float(expected))
