"""Inner steps that move less than everything, learn how far, or are of first order.

Each against autograd through a loop over tasks, and where it must be another one in disguise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metarl.agents import catalogue
from metarl.agents.inner.sgd import SgdConfig
from metarl.equations.returns import standardize
from metarl.equations.trust_region import ravel
from metarl.errors import UserError

LR = 0.3
CONTEXT = 3
STEPS: dict[str, dict[str, Any]] = {
    "maml": {},
    "anil": {"adapted": "head"},
    "meta-sgd": {"learn_lr": True},
    "meta-sgd of the head": {"adapted": "head", "learn_lr": True},
    "cavia": {"adapted": "context"},
    "meta-sgd of the context": {"adapted": "context", "learn_lr": True},
}


def build(problem, config):
    """The objective, and the batches that it learns from; step sizes are uneven, some negative."""
    sizes = problem.rule(config).init(problem.params, np.random.default_rng(0))
    problem.params |= {n: x + 0.4 * problem.normal(*x.shape) for n, x in sizes.items()}
    supports, query = [problem.batch() for _ in range(config.steps)], problem.batch()
    return problem.objective(config, supports, query), supports, query


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("kind", ["box-tanh", "box-relu", "discrete-tanh"])
@pytest.mark.parametrize("name", STEPS)
def test_every_kind_of_step_equals_a_loop_over_tasks_by_autograd(
    make_problem, textbook, name, kind, steps, first_order
):
    """Gradient, Gauss-Newton product, and both values at other meta-parameters.

    First order in the textbook: the inner gradient is a constant, its step size is not.
    """
    config = SgdConfig(LR, steps, first_order, **STEPS[name])
    problem = make_problem(*kind.split("-"), context=CONTEXT * (config.adapted == "context"))
    objective, *batches = build(problem, config)
    loop, tangent = textbook(problem, config, *batches), problem.tangent()
    gradient, product = loop.derivatives(problem.params, tangent)
    torch.testing.assert_close(objective.gradient, gradient)
    torch.testing.assert_close(objective.product(tangent), product)
    elsewhere = {name: x + 0.05 * tangent[name] for name, x in problem.params.items()}
    assert objective.evaluate(elsewhere) == pytest.approx(loop.evaluate(elsewhere))


@pytest.mark.parametrize("name", ["anil", "meta-sgd", "cavia"])
def test_steps_behind_convolutions(make_problem, textbook, name):
    """The context enters behind the convolutions, beside the numbers that are no pixels."""
    config = SgdConfig(LR, 1, **STEPS[name])
    problem = make_problem("image", "tanh", context=CONTEXT * (config.adapted == "context"))
    objective, *batches = build(problem, config)
    loop, tangent = textbook(problem, config, *batches), problem.tangent()
    gradient, product = loop.derivatives(problem.params, tangent)
    torch.testing.assert_close(objective.gradient, gradient)
    torch.testing.assert_close(objective.product(tangent), product)
    sizes = [name for name in gradient if name.startswith("lr.")]
    assert bool(sizes) == config.learn_lr
    assert all(x.abs().max() > 0 for x in gradient.values())


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("space", ["box", "discrete", "multidiscrete"])
def test_equal_step_sizes_are_mamls(make_problem, space, steps):
    """The same gradient of the weights; the sizes' own sum to the finite difference in MAML's."""
    problem, config = make_problem(space, "tanh"), SgdConfig(LR, steps)
    maml, *batches = build(problem, config)
    learned = replace(config, learn_lr=True)
    problem.params |= problem.rule(learned).init(problem.params, np.random.default_rng(0))
    found = problem.objective(learned, *batches).gradient
    for name, expected in maml.gradient.items():
        torch.testing.assert_close(found[name], expected)
    gains = []
    for lr in (LR + 1e-6, LR - 1e-6):
        maml.data = maml.data._replace(inner=problem.by_hand(replace(config, lr=lr)))
        gains.append(maml.evaluate(problem.params)[0])
    total = sum(float(found[f"lr.{name}"].sum()) for name in maml.gradient)
    assert total == pytest.approx((gains[0] - gains[1]) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("space", ["box", "discrete"])
def test_anil_with_everything_in_the_head_is_maml(make_problem, space):
    """A policy without hidden layers is all head, its deviation included."""
    problem = make_problem(space, "tanh", hidden=())
    maml, *batches = build(problem, SgdConfig(LR, 2))
    anil, tangent = problem.objective(SgdConfig(LR, 2, adapted="head"), *batches), problem.tangent()
    torch.testing.assert_close(anil.gradient, maml.gradient, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(anil.product(tangent), maml.product(tangent), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("linear", [True, False])
def test_first_order_is_second_order_where_the_inner_loss_is_linear(make_problem, linear):
    """log p(a) of a linear softmax policy is linear but for its normaliser, which is the same for
    all actions at an observation: where advantages there sum to zero, the loss is linear."""
    problem = make_problem("discrete", "tanh", hidden=())

    def batch():
        drawn = problem.batch()
        if not linear:
            return drawn
        obs = drawn.obs[:, :4].repeat(1, 10, 1)  # four of them, ten times each
        by_obs = (x.unflatten(1, (10, 4)).mT for x in (drawn.advantages, drawn.weights))
        advantages, weights = by_obs
        advantages = standardize(advantages, weights / weights.sum(-1, keepdim=True))
        return drawn._replace(obs=obs, advantages=advantages.mT.flatten(1))

    supports, query, tangent = [batch(), batch()], problem.batch(), problem.tangent()
    first, second = (
        problem.objective(SgdConfig(LR, 2, first_order), supports, query)
        for first_order in (True, False)
    )
    for a, b in (
        (first.gradient, second.gradient),
        (first.product(tangent), second.product(tangent)),
    ):
        assert linear == all(torch.allclose(a[name], b[name], rtol=1e-9, atol=1e-12) for name in a)


@pytest.mark.parametrize("name", STEPS)
def test_bfloat16_hessians_stay_near(make_problem, name):
    """The products' half precision reaches every kind of step: 1% off, not another matrix."""
    config = SgdConfig(LR, 2, **STEPS[name])
    problem = make_problem("box", "tanh", context=CONTEXT * (config.adapted == "context"))
    exact, *batches = build(problem, config)
    rough, tangent = problem.objective(config, *batches), problem.tangent()
    for part in rough.parts:
        part.steps[:] = [step.to(torch.bfloat16) for step in part.steps]
    a, b = ravel(exact.product(tangent)), ravel(rough.product(tangent))
    assert 0.0 < float((a - b).norm() / a.norm()) < 0.01


def test_extra_steps_at_evaluation_are_shorter(problem):
    """Trained for one step of 0.5; the published evaluation halves those after it. Without steps
    in training the first of evaluation is a whole one."""

    def rates(**settings):
        rule = problem.rule(SgdConfig(0.5, **settings))
        return [rule.rate(index) for index in range(3)]

    assert rates(steps=1) == rates(steps=0) == [0.5, 0.25, 0.25]
    assert rates(steps=2) == [0.5, 0.5, 0.25]
    assert rates(steps=1, learn_lr=True) == [1.0, 0.5, 0.5]  # times sizes that are 0.5 at first


@pytest.mark.parametrize(
    ("context", "settings", "said"),
    [
        (0, {"adapted": "context"}, "'context', and agent.policy.context is 0"),
        (2, {"adapted": "all"}, "agent.inner.adapted is 'all', and agent.policy.context is 2"),
        (2, {"adapted": "head"}, "agent.inner.adapted is 'head', and agent.policy.context is 2"),
        (2, {"adapted": "context", "steps": 0}, "'context', and agent.inner.steps is 0"),
        (0, {"learn_lr": True, "steps": 0}, "agent.inner.learn_lr is True"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_in_two_lines(
    make_problem, context, settings, said
):
    """By the rule and where an agent is built, which refuses the last as without effect before."""
    entry = catalogue.default("maml-trpo")
    config = replace(
        entry, policy=replace(entry.policy, context=context), inner=SgdConfig(**settings)
    )
    spec, cpu = make_problem("box", "tanh").spec, torch.device("cpu")
    with pytest.raises(UserError, match=said) as caught:
        config.inner.check(config)
    assert len(str(caught.value).splitlines()) == 2
    refusal = said if "learn_lr" not in settings else r"no use of agent\.inner\.learn_lr"
    with pytest.raises(UserError, match=refusal) as caught:
        catalogue.build(spec, config, np.random.default_rng(0), cpu)
    assert len(str(caught.value).splitlines()) == 2
