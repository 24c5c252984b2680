"""The plain policy gradient outside: its gradient and its step, on episodes and examples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.agents import catalogue
from metarl.agents.batch import CollectedBatch
from metarl.agents.derivatives.autograd import Autograd
from metarl.agents.inner.sgd import SgdConfig
from metarl.agents.outer.vpg import VpgConfig
from metarl.agents.policy_gradient import MetaBatch
from metarl.envs import catalogue as envs
from metarl.equations.distributions import each
from metarl.errors import UserError
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import Examples, FewShotSpec, Workers

CPU, RNG = torch.device("cpu"), np.random.default_rng(0)


@pytest.fixture(params=[0, 1, 2])
def data(request, problem):
    """A meta-batch that the problem's policy collected, and the same as batches."""
    config = SgdConfig(0.3, steps=request.param)
    steps = Autograd(problem.rule(config), problem.loss())
    params, rounds = problem.params, []
    for index in range(request.param + 1):
        batch = problem.batch()
        behaviour = each(torch.Tensor.detach, problem.policy(params, batch.obs))
        wide = each(lambda x, b=batch: x.expand(*b.weights.shape, x.shape[-1]), behaviour)
        rounds.append(CollectedBatch(batch, wide, 1))
        if index < request.param:
            params = steps.step(params, rounds[-1], index)
    found = MetaBatch(problem.policy, steps, rounds[:-1], rounds[-1], {})
    return config, found, [x.batch for x in rounds]


def test_its_gradient_is_that_of_the_reference(problem, textbook, data):
    """The gradient of the gain after adaptation, in a loop over tasks by plain autograd."""
    config, found, batches = data
    expected, _ = textbook(problem, config, batches[:-1], batches[-1]).derivatives(
        problem.params, problem.tangent()
    )
    gradient, _ = found.gradient(problem.params)
    torch.testing.assert_close({n: -x for n, x in gradient.items()}, expected)


def test_the_first_step_is_lr_along_the_signs(problem, data):
    """Adam's first step is lr times the sign of the gradient, uphill in the return."""
    _, found, _ = data
    rule = VpgConfig(lr=0.01, max_grad_norm=1e6).build()
    gradient, _ = found.gradient(problem.params)
    after, _, metrics = rule.step(problem.params, rule.init(problem.params), found, RNG)
    for name, x in problem.params.items():
        large = gradient[name].abs() > 1e-4  # smaller ones are not far above Adam's epsilon
        expected = (x - 0.01 * gradient[name].sign())[large]
        torch.testing.assert_close(after[name][large], expected, rtol=0, atol=1e-5)
    norm = torch.cat([x.flatten() for x in gradient.values()]).norm()
    assert metrics == {"skipped": 0.0, "gradient_norm": pytest.approx(float(norm))}


def test_entropy_is_added_to_the_return(problem, data):
    """The gradient of the adapted policies' entropy on the query, times the weight, downhill."""
    _, found, _ = data
    objective, weight = found.surrogate(float("inf")), 0.3
    (plain, before), (weighed, after) = (found.gradient(problem.params, x) for x in (0.0, weight))
    expected, parts = objective.gradient(problem.params, lambda parts: -weight * parts.entropy)
    torch.testing.assert_close({n: weighed[n] - x for n, x in plain.items()}, expected)
    assert float(after - before) == pytest.approx(-weight * float(parts.entropy))
    rules = [VpgConfig(entropy=x).build() for x in (0.0, weight)]
    steps = [x.step(problem.params, x.init(problem.params), found, RNG)[2] for x in rules]
    norms = [torch.cat([x.flatten() for x in one.values()]).norm() for one in (plain, weighed)]
    assert [x["gradient_norm"] for x in steps] == pytest.approx([float(x) for x in norms])


def test_examples_have_no_entropy():
    config = catalogue.default("maml-vpg", "examples")
    config = replace(config, outer=VpgConfig(entropy=0.1))
    with pytest.raises(UserError, match=r"no use of agent\.outer\.entropy"):
        catalogue.build(FewShotSpec("numbers", (1,), 1, False), config, RNG, CPU)


def test_what_is_not_finite_is_skipped(problem, data):
    _, found, _ = data
    query = found.query._replace(
        batch=found.query.batch._replace(advantages=found.query.batch.advantages * torch.inf)
    )
    rule = VpgConfig().build()
    state = rule.init(problem.params)
    after, again, metrics = rule.step(problem.params, state, found._replace(query=query), RNG)
    assert after is problem.params
    assert again is state
    assert metrics == {"skipped": 1.0}


@pytest.mark.parametrize("inner", [n for n, x in catalogue.INNER.items() if x.episodes])
def test_it_goes_with_every_inner_rule(inner):
    """Updates through each move the meta-parameters, on episodes."""
    config = catalogue.default(f"{inner}-vpg")
    config = replace(config, policy=replace(config.policy, hidden=(8,)))
    tasks = envs.make("point-goal", 6)
    agent = catalogue.build(tasks.spec, config, np.random.default_rng(0), CPU)
    before = agent.state_dict()
    env, drawn = tasks.open(3, 4, Workers(0)), tasks.sample(3, np.random.default_rng(1))
    state, rounds = adaptation_rounds(agent, env, tasks.spec, drawn, 4, agent.steps, (1, 0), CPU)
    assert agent.meta_update(state, rounds[-1], RNG)["skipped"] == 0.0
    layers = [name for name in agent.meta if name.startswith("layer")]
    assert not any(torch.equal(agent.meta[name], before[name]) for name in layers)


def test_on_examples_it_is_adam_on_the_loss():
    spec = FewShotSpec("numbers", (1,), 1, False)
    ours, theirs = (
        catalogue.build(spec, catalogue.default(name, "examples"), np.random.default_rng(0), CPU)
        for name in ("maml-vpg", "maml")
    )
    g = torch.Generator().manual_seed(0)
    support, query = (Examples(*(torch.randn(3, 5, 1, generator=g) for _ in "xy")) for _ in "sq")
    for agent in (ours, theirs):
        agent.meta_update(agent.adapt(agent.begin(), support), query, RNG)
    assert all(torch.equal(ours.meta[name], x) for name, x in theirs.meta.items())
