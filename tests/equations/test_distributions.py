"""Every family against torch.distributions, autograd and finite samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Independent, Normal, kl_divergence
from torch.func import vmap

from metarl.equations.box_gaussian import box_gaussian
from metarl.equations.categorical import Categorical
from metarl.equations.distributions import ActionDistribution, each
from metarl.equations.gaussian import Gaussian
from metarl.equations.multi_categorical import MultiCategorical, multi_categorical

NVEC = (3, 2, 4)
IN_BOX = box_gaussian((1.5, -6.0, 0.0), (3.5, -2.0, float("inf")))


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def pair(family) -> tuple[ActionDistribution, ActionDistribution]:
    if family == "gaussian":
        return Gaussian(normal(7, 3), 0.3 * normal(3)), Gaussian(normal(7, 3), 0.3 * normal(3))
    if family == "box_gaussian":
        return IN_BOX(normal(7, 3), 0.3 * normal(3)), IN_BOX(normal(7, 3), 0.3 * normal(3))
    if family == "multi_categorical":
        return multi_categorical(NVEC)(normal(7, 9)), multi_categorical(NVEC)(normal(7, 9))
    return Categorical(normal(7, 4)), Categorical(normal(7, 4))


def actions_of(family):
    if family == "multi_categorical":
        return torch.stack([torch.randint(0, n, (7,)) for n in NVEC], -1)
    return normal(7, 3) if "gaussian" in family else torch.randint(0, 4, (7, 1))


def joint_logits(logits):
    """[..., 24]: one choice among all combinations of independent choices, the last one fastest."""
    a, b, c = logits[..., :3], logits[..., 3:5], logits[..., 5:]
    return (a[..., :, None, None] + b[..., None, :, None] + c[..., None, None, :]).flatten(-3)


def joint_index(actions):
    a, b, c = actions.unbind(-1)
    return (a * 2 + b) * 4 + c


def reference(distribution: Any) -> Any:
    if isinstance(distribution, MultiCategorical):
        return TorchCategorical(logits=joint_logits(distribution.logits))
    if isinstance(distribution, Gaussian):
        return Independent(Normal(distribution.mean, distribution.log_std.exp()), 1)
    return TorchCategorical(logits=distribution.logits)


families = pytest.mark.parametrize(
    "family", ["gaussian", "box_gaussian", "categorical", "multi_categorical"]
)


@families
def test_log_probs_kl_and_entropy_equal_torch(family):
    """Sums over action dimensions included; several choices equal their joint enumeration."""
    p, q = pair(family)
    actions = theirs = actions_of(family)
    if family == "box_gaussian":
        theirs = (actions - torch.tensor([2.5, -4.0, 0.0])) / torch.tensor([1.0, 2.0, 1.0])
    elif family != "gaussian":
        theirs = joint_index(actions) if family == "multi_categorical" else actions.squeeze(-1)
    torch.testing.assert_close(p.log_probs(actions), reference(p).log_prob(theirs))
    torch.testing.assert_close(p.kl(q), kl_divergence(reference(p), reference(q)))
    torch.testing.assert_close(p.entropy(), reference(p).entropy())


@families
def test_score_and_its_derivative_equal_autograd(family):
    p, tangent = pair(family)
    actions = actions_of(family)
    # log_std as one per sample, so that its gradient is one per sample too
    p = each(lambda x: x.expand_as(p[0]).clone().requires_grad_(), p)
    tangent = each(lambda x: x.expand_as(p[0]), tangent)
    grads = torch.autograd.grad(p.log_probs(actions).sum(), list(p), create_graph=True)
    factor = normal(7)
    for ours, theirs in zip(p.score(actions, factor), grads, strict=True):
        torch.testing.assert_close(ours, factor[:, None] * theirs)
    along = torch.stack([(g * v).sum() for g, v in zip(grads, tangent, strict=True)]).sum()
    seconds = torch.autograd.grad(along, list(p))
    found = p.score_curvature(actions, factor).times(tangent)
    for ours, theirs in zip(found, seconds, strict=True):
        torch.testing.assert_close(ours, factor[:, None] * theirs)


@families
def test_fisher_is_the_hessian_of_kl(family):
    p, tangent = pair(family)
    p = each(lambda x: x.expand_as(p[0]).clone(), p)
    tangent = each(lambda x: x.expand_as(p[0]), tangent)
    new = each(lambda x: x.clone().requires_grad_(), p)
    grads = torch.autograd.grad(p.kl(new).sum(), list(new), create_graph=True)
    along = torch.stack([(g * v).sum() for g, v in zip(grads, tangent, strict=True)]).sum()
    factor, seconds = normal(7), torch.autograd.grad(along, list(new))
    for ours, theirs in zip(p.fisher(tangent, factor), seconds, strict=True):
        torch.testing.assert_close(ours, factor[:, None] * theirs)


def test_gaussian_samples_have_its_moments():
    p = Gaussian(torch.tensor([1.0, -2.0]), torch.tensor([0.5, -1.0]))
    x = p.sample(torch.randn(200_000, 2))
    torch.testing.assert_close(x.mean(0), p.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(x.std(0), p.log_std.exp(), atol=0.02, rtol=0)


def test_samples_in_a_box_have_the_moments_that_it_scales():
    """And a density as torch says, but for the constant half widths."""
    p = IN_BOX(torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.5, -1.0, 0.0]))
    middle, half = torch.tensor([2.5, -4.0, 0.0]), torch.tensor([1.0, 2.0, 1.0])
    x = p.sample(torch.randn(200_000, 3))
    torch.testing.assert_close(x.mean(0), middle + half * p.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(x.std(0), half * p.log_std.exp(), atol=0.02, rtol=0)
    density = Independent(Normal(middle + half * p.mean, half * p.log_std.exp()), 1).log_prob(x)
    torch.testing.assert_close(p.log_probs(x), density + half.log().sum(), atol=1e-4, rtol=1e-4)


def test_a_box_belongs_to_the_class():
    """Equal boxes share it, and torch.func puts together what it took apart."""
    p, _ = pair("box_gaussian")
    same = box_gaussian([1.5, -6.0, 0.0], [3.5, -2.0, float("inf")])
    assert same is type(p) is type(vmap(lambda x: each(torch.exp, x))(rows(p)))
    assert box_gaussian((1.5, -6.0, 0.0), (3.5, -2.0, 1.0)) is not type(p)


def rows(p: Any) -> Any:
    """The distribution with every parameter as long as the mean."""
    return each(lambda x: x.expand_as(p.mean), p)


def test_gumbel_samples_have_the_categorical_frequencies():
    p = Categorical(torch.tensor([0.0, 1.0, -1.0]))
    gumbel = -torch.log(-torch.log(torch.rand(200_000, 3)))
    counts = torch.bincount(p.sample(gumbel).flatten(), minlength=3) / 200_000
    torch.testing.assert_close(counts, p.logits.softmax(-1), atol=0.005, rtol=0)
    assert p.sample(torch.zeros(3)).tolist() == [1]


def test_gumbel_samples_of_several_choices_have_the_joint_frequencies():
    p = multi_categorical(NVEC)(torch.tensor([0.0, 1.0, -1.0, 0.5, 0.0, 0.0, 0.3, -0.2, 1.0]))
    gumbel = -torch.log(-torch.log(torch.rand(200_000, 9)))
    actions = p.sample(gumbel)
    assert actions.dtype == torch.int64
    counts = torch.bincount(joint_index(actions), minlength=24) / 200_000
    torch.testing.assert_close(counts, joint_logits(p.logits).softmax(-1), atol=0.005, rtol=0)
    assert p.sample(torch.zeros(9)).tolist() == [1, 0, 3]


def test_a_single_choice_is_the_categorical():
    (p, q), actions = pair("categorical"), actions_of("categorical")
    one, other = (multi_categorical((4,))(*x) for x in (p, q))
    noise, factor = normal(7, 4), normal(7)

    def all_of(p: Any, q: Any) -> list[torch.Tensor]:
        single = [p.sample(noise), p.log_probs(actions), p.kl(q), p.entropy()]
        curvature = p.score_curvature(actions, factor)
        derivatives = [p.fisher(q, factor), p.score(actions, factor), curvature.times(q)]
        return single + [x for parts in (*derivatives, curvature) for x in parts]

    torch.testing.assert_close(all_of(one, other), all_of(p, q), rtol=1e-12, atol=1e-12)


def test_the_choices_belong_to_the_class():
    """Hence what torch.func takes apart and puts together is of the family it was."""
    p, _ = pair("multi_categorical")
    assert multi_categorical(NVEC) is type(p) is type(vmap(lambda x: each(torch.exp, x))(p))
    assert multi_categorical(NVEC[::-1]) is not type(p)
