"""Soft actor-critic: the squashed Gaussian's density, and losses with known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.acting.families import SquashedActions
from metarl.equations import sac
from metarl.equations.gaussian import Gaussian
from metarl.equations.squashed_gaussian import SquashedGaussian, log_slope, squashed_gaussian

KIND = squashed_gaussian([-1.0, 2.0], [3.0, 6.0])
"""Middles 1 and 4, half widths 2."""


def distribution(shape: tuple[int, ...] = (5, 2)) -> SquashedGaussian:
    g = torch.Generator().manual_seed(0)
    mean, log_std = torch.randn(2, *shape, generator=g, dtype=torch.float64)
    return KIND(mean, 0.4 * log_std)


def test_the_slope_of_tanh_is_exact_and_never_overflows():
    u = torch.linspace(-6, 6, 101, dtype=torch.float64)
    torch.testing.assert_close(log_slope(u), (1 - u.tanh().square()).log(), rtol=0, atol=1e-9)
    far = torch.tensor([-1e4, -30.0, 30.0, 1e4], requires_grad=True)
    expected = 2 * math.log(2) - 2 * far.detach().abs()
    torch.testing.assert_close(log_slope(far).detach(), expected)
    (slope,) = torch.autograd.grad(log_slope(far).sum(), far)
    torch.testing.assert_close(slope, torch.tensor([2.0, 2.0, -2.0, -2.0]))


def test_the_density_integrates_to_one():
    """In units of the box, over a fine grid of each dimension."""
    kind = squashed_gaussian([-1.0], [1.0])
    ends = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    actions = 0.5 * (ends[1:] + ends[:-1])
    for mean, std in ((0.0, 0.5), (0.7, 0.9), (-1.0, 0.3)):
        one = kind(torch.tensor([mean]).double(), torch.tensor([std]).double().log())
        density = one.log_probs(actions[:, None]).exp()
        assert float(density.sum() * 1e-4) == pytest.approx(1.0, abs=1e-4)


def test_actions_are_in_the_box_and_their_density_is_that_of_sampling():
    one = distribution()
    noise = torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    actions, (units, log_probs) = one.sample(noise), one.units_and_log_probs(noise)
    torch.testing.assert_close(actions, torch.tensor([1.0, 4.0]) + 2.0 * units)
    torch.testing.assert_close(one.log_probs(actions), log_probs)
    torch.testing.assert_close(KIND.in_units(actions), units)
    wide = KIND(torch.full((1, 2), 50.0), torch.zeros(1, 2))
    face, at_the_face = wide.sample(torch.zeros(1, 2)), wide.units_and_log_probs(torch.zeros(1, 2))
    assert face.tolist() == [[3.0, 6.0]]
    assert float(at_the_face[1]) == pytest.approx(2 * (100 - 2 * math.log(2) - 0.918939), abs=1e-3)
    assert wide.log_probs(face).isfinite().all()


def test_the_entropy_is_the_mean_of_the_surprise():
    one = distribution()
    noise = torch.randn(200_000, 1, 2, generator=torch.Generator().manual_seed(2)).double()
    _, log_probs = one.units_and_log_probs(noise)
    torch.testing.assert_close(one.entropy(), -log_probs.mean(0), rtol=0, atol=0.01)
    flat = squashed_gaussian([-1.0], [1.0])(torch.zeros(1).double(), torch.full((1,), 0.87).log())
    assert math.log(2) - 0.01 < float(flat.entropy()) < math.log(2)  # nearly uniform on (-1, 1)


def test_the_score_is_the_gradient_and_divergences_are_those_before_the_squashing():
    one, other = distribution(), distribution(shape=(2, 5)).mean.reshape(5, 2)
    actions = one.sample(torch.full((5, 2), 0.3, dtype=torch.float64))
    leaves = [x.clone().requires_grad_() for x in one]
    factor = torch.arange(1.0, 6.0).double()
    loss = (factor * KIND(*leaves).log_probs(actions)).sum()
    expected = torch.autograd.grad(loss, leaves)
    for found, one_expected in zip(one.score(actions, factor), expected, strict=True):
        torch.testing.assert_close(found, one_expected)
    new = KIND(other, one.log_std)
    torch.testing.assert_close(one.kl(new), Gaussian(*one).kl(Gaussian(*new)))


def test_the_family_in_numpy_is_the_one_in_torch():
    g = torch.Generator().manual_seed(3)
    output, noise = 3 * torch.randn(4, 3, 4, generator=g), torch.randn(4, 3, 2, generator=g)
    mean, log_std = output.chunk(2, -1)
    expected = KIND(mean, log_std.clamp(-1.0, 2.0)).sample(noise)
    box = (np.array(x, np.float32) for x in (KIND.middle, KIND.half))
    family = SquashedActions(np.float32(-1.0), np.float32(2.0), *box)
    found = family.sample(output.numpy(), noise.numpy(), None)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(family.encoded(found), KIND.in_units(expected), rtol=0, atol=1e-5)


def test_the_best_soft_value_of_choices_is_a_log_sum_exp():
    """pi = softmax(Q / alpha) maximises it: V = alpha log sum exp(Q / alpha)."""
    g = torch.Generator().manual_seed(4)
    q, alpha = torch.randn(3, 6, 4, generator=g).double(), torch.tensor(0.7).double()
    for least, joined in ((True, q.amin(0)), (False, q.mean(0))):
        best = (joined / alpha).log_softmax(-1)
        found = sac.soft_value_of_choices(q, best, alpha, least)
        torch.testing.assert_close(found, alpha * (joined / alpha).logsumexp(-1))
        other = torch.randn(6, 4, generator=g).double().log_softmax(-1)
        assert (sac.soft_value_of_choices(q, other, alpha, least) < found).all()


def test_sampled_values_have_the_mean_of_all_choices():
    """The soft value of an action, averaged over the policy, is that of the policy."""
    q = torch.tensor([[1.0, 2.0, 4.0], [3.0, 0.0, 5.0]])
    log_probs, alpha = torch.tensor([0.2, 0.3, 0.5]).log(), torch.tensor(0.5)
    each = sac.soft_value(q, log_probs, alpha)
    assert each.tolist() == pytest.approx(
        [1 - 0.5 * math.log(0.2), 0 - 0.5 * math.log(0.3), 4 - 0.5 * math.log(0.5)]
    )
    whole = sac.soft_value_of_choices(q[:, None], log_probs[None], alpha)
    assert float(whole) == pytest.approx(float((log_probs.exp() * each).sum()))


def test_targets_and_losses_by_hand():
    rewards, next_values = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])
    found = sac.td_targets(rewards, torch.tensor([1.0, 0.0]), next_values, 0.5)
    assert found.tolist() == [6.0, 2.0]
    q, weights = torch.tensor([[5.0, 2.0], [6.0, 4.0]]), torch.tensor([0.25, 0.75])
    assert float(sac.critic_loss(q, found, weights)) == 0.25 * (1 + 0) + 0.75 * (0 + 4)
    assert float(sac.actor_loss(next_values, weights)) == -17.5


def test_the_temperature_rises_where_the_entropy_is_too_low():
    """Its derivative in log alpha is alpha (H - H_target)."""
    weights = torch.tensor([0.5, 0.5])

    def slope(entropy: list[float]) -> float:
        leaf = torch.tensor(0.3).log().requires_grad_()
        loss = sac.temperature_loss(leaf, torch.tensor(entropy), -2.0, weights)
        (found,) = torch.autograd.grad(loss, leaf)
        return float(found)

    assert slope([-3.0, -4.0]) == pytest.approx(0.3 * -1.5)
    assert slope([0.0, 1.0]) == pytest.approx(0.3 * 2.5)


def test_targets_follow_by_a_geometric_average():
    fast: dict[str, Tensor] = {"x": torch.ones(2)}
    slow = {"x": torch.zeros(2)}
    for _ in range(3):
        slow = sac.polyak(slow, fast, 0.1)
    torch.testing.assert_close(slow["x"], torch.full((2,), 1 - 0.9**3))
