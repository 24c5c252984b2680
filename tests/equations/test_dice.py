"""DiCE's derivatives: a chain by hand, the published form, and all episodes of a small MDP."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.func import jacrev

from metarl.equations.categorical import Categorical
from metarl.equations.dice import dice_loss
from metarl.equations.losses import score_function_loss
from metarl.equations.trust_region import surrogate_gain

DISCOUNT = 0.9


def hessian(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Any]:
    return jacrev(jacrev(function))


def test_a_two_step_chain_by_hand():
    """Right with probability 1/4; right, then left, for rewards of 2 and 3.

    The log-probabilities have the derivatives 3/4 and -1/4, and each the second one -3/16. So
    box(0) 2 + box(1) 3 has the derivative 3/4 x 2 + 1/2 x 3 = 3, and the second one
    (9/16 - 3/16) 2 + (1/4 - 6/16) 3 = 3/8.
    """
    logit = torch.tensor(1.0 / 3.0, dtype=torch.float64).log().requires_grad_()
    taken = torch.tensor([[1.0], [0.0]], dtype=torch.float64)  # [T, E] = [2, 1]
    log_probs = taken * logit - torch.nn.functional.softplus(logit)
    to_go = torch.tensor([[5.0], [3.0]], dtype=torch.float64)
    ones = torch.ones(2, 1, dtype=torch.float64)
    loss = dice_loss(log_probs - log_probs.detach(), to_go, ones)
    first = torch.autograd.grad(-loss, logit, create_graph=True)[0]
    second = torch.autograd.grad(first, logit)[0]
    assert loss.item() == 0.0
    assert first.item() == pytest.approx(3.0)
    assert second.item() == pytest.approx(3.0 / 8.0)


def magic_box(log_probs: Tensor) -> Tensor:
    """Ones whose derivative is the box times that of `log_probs` (arXiv:1802.05098)."""
    return torch.exp(log_probs - log_probs.detach())


def summed_back(x: Tensor) -> Tensor:
    """The sum of this and all later steps, [T, E]."""
    return x.flip(0).cumsum(0).flip(0)


def test_by_parts_it_is_the_published_sum():
    """sum_t box(t) discount^t r_t (arXiv:1802.05098, Eq. 6): gradient and Hessian."""
    g = torch.Generator().manual_seed(0)
    steps, episodes = 5, 3
    scores = torch.randn(steps, episodes, 4, generator=g, dtype=torch.float64)
    rewards = torch.randn(steps, episodes, generator=g, dtype=torch.float64)
    at = theta = torch.randn(4, generator=g, dtype=torch.float64)
    faded = DISCOUNT ** torch.arange(steps, dtype=torch.float64)[:, None]
    to_go = summed_back(faded * rewards)

    def ours(theta: Tensor) -> Tensor:
        log_ratios = (scores @ theta).sin() - (scores @ at).sin()
        return -dice_loss(log_ratios, to_go, torch.ones_like(rewards))

    def published(theta: Tensor) -> Tensor:
        return (magic_box((scores @ theta).sin().cumsum(0)) * faded * rewards).sum()

    torch.testing.assert_close(jacrev(ours)(theta), jacrev(published)(theta))
    torch.testing.assert_close(hessian(ours)(theta), hessian(published)(theta))


REWARDS = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)  # [state, action]
NEXT = torch.tensor([[0.2, 0.7], [0.6, 0.1]], dtype=torch.float64)  # P(next state is 1)
THETA = torch.tensor([[0.3, -0.4], [0.8, 0.1]], dtype=torch.float64)  # logits [state, action]


def exact_return(theta: Tensor, steps: int) -> Tensor:
    """The discounted return from state 0, by dynamic programming."""
    values, probs = torch.zeros(2, dtype=theta.dtype), theta.softmax(-1)
    for _ in range(steps):
        ahead = NEXT * values[1] + (1.0 - NEXT) * values[0]
        values = (probs * (REWARDS + DISCOUNT * ahead)).sum(-1)
    return values[0]


class Episodes(NamedTuple):
    """Every episode that there can be, [T, E]; its probability under THETA is its weight."""

    states: Tensor
    actions: Tensor
    advantages: Tensor
    weights: Tensor


def all_episodes(steps: int, baseline: float) -> Episodes:
    """Advantages are discount^t (rewards to go - baseline (1 + state + t))."""
    probs, rows = THETA.softmax(-1), []
    for path in itertools.product((0, 1), repeat=2 * steps - 1):
        states, actions = (0, *path[steps:]), path[:steps]
        chance = 1.0
        for t in range(steps):
            chance *= probs[states[t], actions[t]].item()
            if t + 1 < steps:
                up = NEXT[states[t], actions[t]].item()
                chance *= up if states[t + 1] else 1.0 - up
        rows.append((states, actions, [chance] * steps))
    states, actions, weights = (torch.tensor(x).T for x in zip(*rows, strict=True))
    time = torch.arange(steps)[:, None]
    faded = DISCOUNT ** time.double()
    advantages = summed_back(faded * REWARDS[states, actions])
    advantages = advantages - faded * baseline * (1 + states + time)
    return Episodes(states, actions, advantages, weights.double())


def gains(episodes: Episodes) -> dict[str, Callable[[Tensor], Tensor]]:
    """Returns each inner loss's gain at theta, in expectation over episodes of THETA."""
    behaviour = Categorical(THETA[episodes.states].flatten(0, 1))
    flat = (
        episodes.actions.reshape(-1, 1),
        episodes.advantages.flatten(),
        episodes.weights.flatten(),
    )

    def policy(theta: Tensor) -> Categorical:
        return Categorical(theta[episodes.states].flatten(0, 1))

    def dice(theta: Tensor) -> Tensor:
        log_ratios = policy(theta).log_probs(flat[0]) - behaviour.log_probs(flat[0])
        timed = log_ratios.view(episodes.states.shape)
        return -dice_loss(timed, episodes.advantages, episodes.weights)

    return {
        "dice": dice,
        "score": lambda theta: -score_function_loss(policy(theta), *flat),
        "ratio": lambda theta: surrogate_gain(policy(theta), behaviour, *flat),
    }


@pytest.mark.parametrize("baseline", [0.0, 0.7])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_over_all_episodes_the_second_derivative_is_that_of_the_return(steps: int, baseline: float):
    """For DiCE; by importance ratio where there is one step alone; for the score loss never."""
    episodes = all_episodes(steps, baseline)
    assert episodes.weights[0].sum().item() == pytest.approx(1.0)

    def objective(theta: Tensor) -> Tensor:
        return exact_return(theta, steps)

    slope, curvature = jacrev(objective)(THETA), hessian(objective)(THETA)
    found = gains(episodes)
    for gain in found.values():
        torch.testing.assert_close(jacrev(gain)(THETA), slope)
    torch.testing.assert_close(hessian(found["dice"])(THETA), curvature)
    assert not torch.allclose(hessian(found["score"])(THETA), curvature, rtol=0.05)
    near = torch.allclose(hessian(found["ratio"])(THETA), curvature)
    assert near == (steps == 1)


@pytest.mark.parametrize("baseline", [0.0, 0.7])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_over_all_episodes_it_is_the_return_of_any_policy(steps: int, baseline: float):
    """Less that of the policy that collected: so it is right in later epochs, with derivatives.

    The losses by score and by ratios of single actions have other gradients there, but for the
    ratio of an episode's only action.
    """
    found = gains(all_episodes(steps, baseline))
    there = torch.tensor([[-0.5, 0.4], [0.2, 0.9]], dtype=torch.float64)

    def objective(theta: Tensor) -> Tensor:
        return exact_return(theta, steps) - exact_return(THETA, steps)

    assert abs(objective(there)) > 0.1
    torch.testing.assert_close(found["dice"](there), objective(there))
    slope = jacrev(objective)(there)
    torch.testing.assert_close(jacrev(found["dice"])(there), slope)
    torch.testing.assert_close(hessian(found["dice"])(there), hessian(objective)(there))
    assert not torch.allclose(jacrev(found["score"])(there), slope, rtol=0.05)
    assert torch.allclose(jacrev(found["ratio"])(there), slope) == (steps == 1)


def test_lambda_forgets_earlier_actions():
    """1 is all of them, 0 the ratio of the action alone; between them as Loaded DiCE's loop."""
    g = torch.Generator().manual_seed(0)
    log_ratios, advantages, weights = torch.randn(3, 6, 2, generator=g, dtype=torch.float64)
    weights = weights.softmax(0)
    alone = -(weights * advantages * (log_ratios.exp() - 1.0)).sum()
    torch.testing.assert_close(dice_loss(log_ratios, advantages, weights, 0.0), alone)
    for decay in (0.3, 1.0):
        total, past = torch.zeros((), dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
        for t in range(6):
            before, past = decay * past, decay * past + log_ratios[t]
            total -= (weights[t] * advantages[t] * (past.exp() - before.exp())).sum()
        torch.testing.assert_close(dice_loss(log_ratios, advantages, weights, decay), total)


def test_padding_does_not_overflow():
    log_ratios = torch.tensor([[0.1], [500.0], [500.0]], requires_grad=True)
    advantages, weights = torch.ones(3, 1), torch.tensor([[1.0], [0.0], [0.0]])
    loss = dice_loss(log_ratios, advantages, weights)
    (slope,) = torch.autograd.grad(loss, log_ratios)
    assert loss.item() == pytest.approx(1.0 - math.exp(0.1), rel=1e-5)
    assert slope.flatten().tolist() == pytest.approx([-math.exp(0.1), 0.0, 0.0])
