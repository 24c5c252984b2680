"""The meta-gradient and its curvature, against finite differences and textbook autograd.

The textbook route loops over tasks and differentiates twice through torch.autograd; the agent's
own route works on all tasks at once with kept derivatives.
"""

from __future__ import annotations

import pytest
import torch

from metarl.agents.inner.sgd import Sgd
from metarl.agents.objective import AdaptationObjective
from metarl.config import SgdConfig
from metarl.equations.distributions import each
from metarl.equations.losses import score_function_loss, surrogate_gain
from metarl.equations.vectors import ravel, unravel

LR = 0.3


def adapt_textbook(problem, params, supports, task, create_graph=True):
    """theta' of one task by autograd, one step after another."""
    for batch in supports:
        one = [x[task] for x in batch]
        loss = score_function_loss(problem.policy(params, one[0]), *one[1:])
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=create_graph)
        params = {n: p - LR * g for (n, p), g in zip(params.items(), grads, strict=True)}
    return params


def mean_gain_and_kl(problem, params, supports, query, behaviours):
    """The meta-objective and the mean KL as a loop over tasks."""
    gains, kls = [], []
    for task in range(query.obs.shape[0]):
        adapted = adapt_textbook(problem, params, supports, task)
        obs, actions, advantages, weights = (x[task] for x in query)
        new, old = problem.policy(adapted, obs), behaviours[task]
        gains.append(surrogate_gain(new, old, actions, advantages, weights))
        kls.append((weights * old.kl(new)).sum())
    return torch.stack(gains).mean(), torch.stack(kls).mean()


def leaf(params):
    return {name: x.detach().clone().requires_grad_() for name, x in params.items()}


def behaviours_of(problem, params, supports, query):
    params = leaf(params)
    found = []
    for task in range(query.obs.shape[0]):
        adapted = adapt_textbook(problem, params, supports, task, create_graph=False)
        distribution = problem.policy(adapted, query.obs[task])
        found.append(each(torch.Tensor.detach, distribution))
    return found


def build(problem, steps, first_order=False):
    supports = [problem.batch() for _ in range(steps)]
    query = problem.batch()
    rule = Sgd(problem.policy, SgdConfig(lr=LR, steps=steps, first_order=first_order))
    objective = AdaptationObjective(
        problem.policy, rule, problem.params, supports, query, query, problem.dtype
    )
    return objective, supports, query


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("space", ["box", "discrete", "multidiscrete"])
def test_meta_gradient_is_the_finite_difference(make_problem, space, steps):
    """Central differences of the gain along random directions, relative error under 1e-6.

    With tanh: across a relu's kink the adapted parameters jump, and differences with them.
    """
    problem = make_problem(space, "tanh")
    objective, _, _ = build(problem, steps)
    start, gradient = ravel(problem.params), ravel(objective.gradient)
    epsilon = 1e-5
    for _ in range(3):
        direction = ravel(problem.tangent())
        direction /= direction.norm()
        up = objective.evaluate(unravel(start + epsilon * direction, problem.params))[0]
        down = objective.evaluate(unravel(start - epsilon * direction, problem.params))[0]
        slope = (up - down) / (2 * epsilon)
        assert float(gradient.dot(direction)) == pytest.approx(slope, rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_batched_equals_a_loop_over_tasks_by_autograd(problem, steps):
    """Gain, gradient and Gauss-Newton product against the loop with double backward."""
    objective, supports, query = build(problem, steps)
    behaviours = behaviours_of(problem, problem.params, supports, query)
    params = leaf(problem.params)
    gain, kl = mean_gain_and_kl(problem, params, supports, query, behaviours)
    assert objective.gain == pytest.approx(gain.item(), rel=1e-10, abs=1e-12)
    grads = torch.autograd.grad(gain, list(params.values()), retain_graph=True)
    torch.testing.assert_close(list(objective.gradient.values()), list(grads))
    tangent = problem.tangent()
    elsewhere = {name: x + 0.05 * tangent[name] for name, x in problem.params.items()}
    expected = mean_gain_and_kl(problem, leaf(elsewhere), supports, query, behaviours)
    assert objective.evaluate(elsewhere) == pytest.approx([x.item() for x in expected])
    slopes = torch.autograd.grad(kl, list(params.values()), create_graph=True)
    along = torch.stack([(g * tangent[n]).sum() for n, g in zip(params, slopes, strict=True)]).sum()
    hessian_product = torch.autograd.grad(along, list(params.values()))
    torch.testing.assert_close(list(objective.product(tangent).values()), list(hessian_product))


def test_float32_agrees_with_the_loop_to_five_digits(problem):
    """What training runs in: the batched float32 meta-gradient against the float64 loop."""
    objective, supports, query = build(problem, 1)
    single = [
        x._replace(
            **{
                name: value.float()
                for name, value in x._asdict().items()
                if value.is_floating_point()
            }
        )
        for x in (*supports, query)
    ]
    params = {name: x.float() for name, x in problem.params.items()}
    other = AdaptationObjective(
        problem.policy, objective.rule, params, single[:-1], single[-1], single[-1], torch.float32
    )
    exact, rounded = ravel(objective.gradient), ravel(other.gradient)
    assert float((exact - rounded).norm() / exact.norm()) < 1e-5


def test_first_order_leaves_the_hessian_out(problem):
    """FOMAML's gradient is the adapted parameters' own, and differs from the second-order one."""
    exact, supports, query = build(problem, 2)
    rule = Sgd(problem.policy, SgdConfig(lr=LR, steps=2, first_order=True))
    first = AdaptationObjective(
        problem.policy, rule, problem.params, supports, query, query, problem.dtype
    )
    params = leaf(problem.params)
    expected = {name: torch.zeros_like(x) for name, x in params.items()}
    for task in range(query.obs.shape[0]):
        adapted = leaf(adapt_textbook(problem, params, supports, task))
        new = problem.policy(adapted, query.obs[task])
        old = each(torch.Tensor.detach, new)
        gain = surrogate_gain(new, old, *(x[task] for x in query[1:]))
        grads = torch.autograd.grad(gain, list(adapted.values()))
        for name, g in zip(params, grads, strict=True):
            expected[name] += g / query.obs.shape[0]
    torch.testing.assert_close(first.gradient, expected)
    tangent = problem.tangent()
    assert not torch.allclose(ravel(first.product(tangent)), ravel(exact.product(tangent)))
    assert not torch.allclose(ravel(first.gradient), ravel(exact.gradient), rtol=1e-3)
