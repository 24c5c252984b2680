"""Learned inner rules: closed forms, and their kept derivatives against plain autograd."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from metarl.agents import catalogue
from metarl.agents.batch import Batch, CollectedBatch
from metarl.agents.derivatives.autograd import Autograd
from metarl.agents.derivatives.linearised import AutogradStep
from metarl.agents.inner.directions import DirectionsConfig
from metarl.agents.inner.learned_optimizer import LearnedOptimizerConfig
from metarl.agents.inner.lslr import LslrConfig
from metarl.agents.inner.lstm import MetaLstmConfig
from metarl.agents.inner.mapping import MappingConfig, ParameterMapping
from metarl.agents.inner.rule import MEMORY, RULE
from metarl.agents.inner.sgd import SgdConfig
from metarl.agents.outer.ppo import Ppo, PpoConfig
from metarl.agents.outer.trpo import TrpoConfig
from metarl.agents.policy_gradient import MetaBatch
from metarl.envs import catalogue as envs
from metarl.equations.distributions import each
from metarl.networks.linearised import LossHessian
from metarl.networks.mlp import select_tasks
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import Workers

LR = 0.3
CONFIGS = {
    "lomaml": LearnedOptimizerConfig(lr=LR, size=3),
    "lomaml-linear": LearnedOptimizerConfig(lr=LR, cell="linear"),
    "lomaml-still": LearnedOptimizerConfig(lr=LR, size=2, learn_lr=False, learn_start=False),
    "lomaml-first-order": LearnedOptimizerConfig(lr=LR, size=2, first_order=True),
    "lslr": LslrConfig(lr=LR),
    "lslr-first-order": LslrConfig(lr=LR, first_order=True),
    "meta-lstm": MetaLstmConfig(lr=LR, forget=0.9, hidden=3),
    "meta-lstm-published": MetaLstmConfig(lr=LR, forget=0.9, hidden=0, first_order=True),
    "gbml": DirectionsConfig(lr=LR, embedding=3, hidden=4),
    "mapping": MappingConfig(embedding=3, hidden=4),
    "mapping-head": MappingConfig("head", embedding=3, hidden=4),
    "mapping-low-rank": MappingConfig("low-rank", rank=2, embedding=3, hidden=4),
}
FIRST = CONFIGS["lomaml-first-order"], CONFIGS["lslr-first-order"]
BEGIN_AS_MAML = ("lomaml", "lomaml-linear", "lslr", "gbml")


class Learned:
    """A rule on a problem's policy, its own parameters away from their start."""

    def __init__(self, problem, config, noise=0.3):
        config = replace(config, steps=3)  # those beyond that go a part of their way
        self.problem, self.config, self.start = problem, config, problem.params
        self.steps = problem.by_hand(config)
        own = self.steps.rule.init(problem.params, np.random.default_rng(1))
        own = {n: x.to(problem.dtype) for n, x in own.items()}
        own = {n: x + noise * problem.normal(*x.shape) for n, x in own.items()}
        fixed = not self.steps.rule.learns_start
        assert fixed == (not getattr(config, "learn_start", True))
        self.fixed = problem.params if fixed else {}
        self.meta = own if fixed else {**problem.params, **own}

    def objective(self, supports, query):
        return self.problem.linearised(self.steps, supports, query, self.meta, self.fixed)

    def after(self, supports):
        """Every task's parameters, one step after another."""
        params = {**self.fixed, **self.meta}
        for index, support in enumerate(supports):
            params = self.steps.step(params, support, index)
        return params


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


def loop_of(textbook, learned, supports, query):
    """The textbook's objective, its adaptation by the rule on one task at a time."""

    steps = Autograd(learned.steps.rule, learned.problem.loss())

    def adapt(meta, supports):
        params = {**learned.fixed, **meta}
        followed = any(x.requires_grad for x in meta.values())
        for index, batch in enumerate(supports):
            whole = Batch(*(x[None] for x in batch))
            one = CollectedBatch(whole, cast(Any, None), 1)
            params, _ = steps.follow(params, one, index, followed)
        return select_tasks(params, 0)

    return textbook(learned.problem, adapt, supports, query, learned.meta)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("space", ["box", "discrete"])
def test_kept_derivatives_equal_autograd_through_the_adaptation(
    make_problem, textbook, config, space, steps
):
    """Gain, gradient and Gauss-Newton product: Hessians by hand and the rule's own part kept,
    against autograd all the way, task by task."""
    problem = make_problem(space, "tanh", hidden=(4, 3))
    learned = Learned(problem, config)
    supports, query = [problem.batch() for _ in range(steps)], problem.batch()
    objective = learned.objective(supports, query)
    loop = loop_of(textbook, learned, supports, query)
    tangent = {name: problem.normal(*x.shape) for name, x in learned.meta.items()}
    gradient, product = loop.derivatives(learned.meta, tangent)
    torch.testing.assert_close(objective.gradient, gradient)
    if not getattr(config, "first_order", False):  # else the loop's second derivative is another
        torch.testing.assert_close(objective.product(tangent), product)
    elsewhere = {name: x + 0.05 * tangent[name] for name, x in learned.meta.items()}
    assert objective.evaluate(elsewhere) == pytest.approx(loop.evaluate(elsewhere))


@pytest.mark.parametrize("name", [n for n in CONFIGS if "first" not in n and "published" not in n])
def test_the_meta_gradient_is_the_finite_difference(make_problem, name):
    problem = make_problem("box", "tanh", hidden=(4, 3))
    learned = Learned(problem, CONFIGS[name])
    supports, query = [problem.batch(), problem.batch()], problem.batch()
    objective = learned.objective(supports, query)
    for _ in range(3):
        way = {n: problem.normal(*x.shape) for n, x in learned.meta.items()}
        up, down = (
            objective.evaluate({n: x + e * way[n] for n, x in learned.meta.items()})[0]
            for e in (1e-6, -1e-6)
        )
        slope = float(sum((objective.gradient[n] * x).sum() for n, x in way.items()))
        assert slope == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", BEGIN_AS_MAML)
def test_untrained_it_is_maml(make_problem, name):
    """Linear O, an O whose gain and shift are zero, directions at the identity: steps, and the
    meta-gradient in all that MAML has, are MAML's."""
    problem = make_problem("box", "tanh", hidden=(4, 3))
    learned = Learned(problem, CONFIGS[name], noise=0.0)
    supports, query = [problem.batch(), problem.batch()], problem.batch()
    maml = problem.objective(SgdConfig(lr=LR, steps=2), supports, query)
    ours = learned.objective(supports, query)
    for name_, x in problem.params.items():
        torch.testing.assert_close(ours.gradient[name_], maml.gradient[name_])
        assert x.abs().max() > 0
    rule, params = problem.by_hand(SgdConfig(lr=LR, steps=2)), problem.params
    for index, support in enumerate(supports):
        params = rule.step(params, support, index)
    found = learned.after(supports)
    torch.testing.assert_close({n: found[n] for n in params}, params)


def test_meta_lstm_with_its_gates_fixed_is_maml(make_problem):
    """Forget gate 1 and a constant input gate, whatever it sees."""
    problem = make_problem("box", "tanh", hidden=(4, 3))
    learned = Learned(problem, MetaLstmConfig(lr=LR, hidden=3), noise=0.0)
    learned.meta[f"{RULE}gates.bias"][1] = 60.0  # its sigmoid is 1
    supports, query = [problem.batch(), problem.batch()], problem.batch()
    maml = problem.objective(SgdConfig(lr=LR, steps=2), supports, query)
    ours = learned.objective(supports, query)
    assert ours.evaluate(learned.meta) == pytest.approx(maml.evaluate(problem.params))
    for name in problem.params:
        torch.testing.assert_close(ours.gradient[name], maml.gradient[name])


def test_a_linear_optimizer_is_gradient_descent_of_that_size(make_problem):
    problem = make_problem("discrete", "tanh", hidden=(4,))
    config = LearnedOptimizerConfig(lr=0.2, cell="linear", learn_lr=False)
    learned = Learned(problem, config, noise=0.0)
    learned.meta[f"{RULE}out"] = torch.tensor([1.5], dtype=problem.dtype)
    batch = problem.batch()
    found = learned.steps.step(learned.meta, batch, 0)
    expected = problem.by_hand(SgdConfig(lr=0.3)).step(problem.params, batch, 0)
    torch.testing.assert_close({n: found[n] for n in expected}, expected)


@pytest.mark.parametrize("deltas", ["full", "head", "low-rank"])
def test_a_mapping_knows_no_order(make_problem, deltas):
    """The order of samples and rounds changes nothing, and one round twice is one round."""
    problem = make_problem("box", "tanh", hidden=(4, 3))
    learned = Learned(problem, MappingConfig(deltas, embedding=3, hidden=4))
    one, two = problem.batch(), problem.batch()
    order = torch.randperm(one.obs.shape[1], generator=problem.generator)
    mixed = type(one)(*(x[:, order] for x in one))
    first = learned.after([one])
    torch.testing.assert_close(learned.after([mixed]), first)
    torch.testing.assert_close(learned.after([one, two]), learned.after([two, mixed]))
    torch.testing.assert_close(learned.after([one, one]), first)
    assert any(
        not torch.equal(first[n].expand_as(x), x)
        for n, x in learned.after([two]).items()
        if n in problem.params
    )


def test_a_mapping_begins_without_effect_and_can_learn_one(make_problem):
    """Nothing is added at first, and the meta-gradient in what would add is not zero."""
    for deltas in ("full", "head", "low-rank"):
        problem = make_problem("box", "tanh", hidden=(4, 3))
        learned = Learned(problem, MappingConfig(deltas, embedding=3, hidden=4), noise=0.0)
        batch, query = problem.batch(), problem.batch()
        found = learned.after([batch])
        for name, x in problem.params.items():
            torch.testing.assert_close(found[name], x.expand_as(found[name]))
        gradient = learned.objective([batch], query).gradient
        rule = learned.steps.rule
        assert isinstance(rule, ParameterMapping)
        for part in gradient[f"{RULE}hyper1.weight"].split(rule.outputs):  # of each parameter
            assert part.abs().max() > 1e-6


def test_memory_goes_on_from_step_to_step(make_problem):
    """The second step of the optimizer and of the gates is not the first one again."""
    for config in (CONFIGS["lomaml"], CONFIGS["meta-lstm"]):
        problem = make_problem("box", "tanh", hidden=(4, 3))
        learned = Learned(problem, config)
        batch = problem.batch()
        after = learned.after([batch])
        assert any(name.startswith(MEMORY) for name in after)
        forgetful = {n: x for n, x in after.items() if not n.startswith(MEMORY)}
        one, other = (learned.steps.step(params, batch, 1) for params in (after, forgetful))
        weight = "layer0.weight"
        assert not torch.allclose(one[weight], other[weight], rtol=1e-4)


def test_padding_is_not_seen(make_problem):
    """Samples of weight zero change no step."""
    for config in CONFIGS.values():
        problem = make_problem("box", "tanh", hidden=(4, 3))
        learned = Learned(problem, config)
        batch = problem.batch()
        padding = batch.weights == 0
        assert padding.any()
        other = batch._replace(
            obs=torch.where(padding[..., None], 7.0, batch.obs),
            rewards=torch.where(padding, 9.0, batch.rewards),
        )
        torch.testing.assert_close(learned.after([other]), learned.after([batch]))


def test_first_order_leaves_out_the_hessian_alone(make_problem):
    problem = make_problem("box", "tanh", hidden=(4, 3))
    batch, query = problem.batch(), problem.batch()
    config = LearnedOptimizerConfig(lr=LR, size=3)
    whole, first = (
        Learned(make_problem("box", "tanh", hidden=(4, 3)), replace(config, first_order=flag))
        for flag in (False, True)
    )
    one, other = (x.objective([batch], query) for x in (whole, first))
    torch.testing.assert_close(
        one.gradient[f"{RULE}out.weight"], other.gradient[f"{RULE}out.weight"]
    )
    assert not torch.allclose(one.gradient["layer0.weight"], other.gradient["layer0.weight"])


@pytest.mark.parametrize("ratio", [False, True])
def test_with_ppo_outside_the_meta_gradient_is_the_same(make_problem, config, ratio):
    """At the parameters that collected the data the clipped surrogate has the gain's gradient."""
    problem = make_problem("box", "tanh", hidden=(4, 3))
    learned = Learned(problem, config)
    support, query = problem.batch(), problem.batch()
    expected = learned.objective([support], query).gradient
    params = {**learned.fixed, **learned.meta}
    adapted = learned.after([support])

    def collected(batch, by):
        shape, policy = batch.weights.shape, problem.policy(by, batch.obs)
        behaviour = each(lambda x: x.detach().expand(*shape, x.shape[-1]), policy)
        return CollectedBatch(batch, behaviour, 1)

    steps = Autograd(problem.rule(config), problem.loss(ratio=ratio))
    data = MetaBatch(
        problem.policy, steps, [collected(support, params)], collected(query, adapted),
        learned.fixed,
    )  # fmt: skip
    outer = Ppo(PpoConfig())
    gradient, _ = data.surrogate(outer.config.clip).gradient(learned.meta, outer.loss)
    sees_more = not (isinstance(config, MappingConfig) or learned.fixed or config in FIRST)
    if ratio and sees_more:  # by ratio the loss and its Hessian are others
        assert any(not torch.allclose(-gradient[n], x) for n, x in expected.items())
    else:
        torch.testing.assert_close({n: -x for n, x in gradient.items()}, expected)


@pytest.mark.parametrize("name", [n for n in CONFIGS if not n.startswith("lslr")])
def test_steps_beyond_those_of_training_go_a_part_of_their_way(make_problem, name):
    """But for a mapping, which says where to go and not how far. LSLR's are in test_lslr.py."""
    config = CONFIGS[name]
    problem = make_problem("box", "tanh", hidden=(4, 3))
    learned = Learned(problem, config)
    one, two = problem.batch(), problem.batch()
    after = learned.after([one])
    whole = learned.steps.step(after, two, 1)
    learned.steps.rule.steps = 1
    part = learned.steps.step(after, two, 1)
    for name in learned.steps.rule.adapted:
        share = 1.0 if isinstance(config, MappingConfig) else 0.5
        expected = after[name] + share * (whole[name] - after[name])
        torch.testing.assert_close(part[name], expected)


@pytest.mark.parametrize("name", ["lomaml-first-order", "meta-lstm-published"])
def test_the_product_is_symmetric_without_the_second_order_too(make_problem, name):
    """<u, G v> = <v, G u>: forward and transposed leave out the same."""
    problem = make_problem("box", "tanh", hidden=(4, 3))
    learned = Learned(problem, CONFIGS[name])
    objective = learned.objective([problem.batch(), problem.batch()], problem.batch())
    u, v = ({n: problem.normal(*x.shape) for n, x in learned.meta.items()} for _ in range(2))
    one, other = (
        float(sum((x[n] * objective.product(y)[n]).sum() for n in x)) for x, y in ((u, v), (v, u))
    )
    assert one == pytest.approx(other, rel=1e-9)
    assert abs(one) > 1e-9


def test_hessians_are_kept_in_the_precision_asked_for(make_problem):
    problem = make_problem("box", "tanh", hidden=(4, 3))
    learned = Learned(problem, CONFIGS["gbml"])
    step = learned.steps.linearise(learned.meta, problem.batch(), 0)
    single = step.to(torch.float32)
    assert isinstance(step, AutogradStep)
    assert isinstance(single, AutogradStep)
    assert isinstance(step.hessian, LossHessian)
    assert isinstance(single.hessian, LossHessian)
    assert step.hessian.here.inputs[0].dtype == torch.float64
    assert single.hessian.here.inputs[0].dtype == torch.float32


@pytest.mark.parametrize("space", ["box", "discrete"])
def test_samples_are_observation_action_reward_advantage(make_problem, space):
    problem = make_problem(space, "tanh")
    batch = problem.batch()
    read = problem.loss().sample_inputs(batch)
    assert read["samples"].shape[-1] == problem.loss().sample_dim
    found = read["samples"][1, 2]
    action = batch.actions[1, 2]
    if space == "discrete":
        action = torch.eye(5, dtype=problem.dtype)[int(action)]
    last = torch.stack([batch.rewards[1, 2], batch.advantages[1, 2]])
    torch.testing.assert_close(found, torch.cat([batch.obs[1, 2], action, last]))


def test_the_cell_begins_by_remembering(make_problem):
    """Input, forget, candidate, output: the second has a bias of one."""
    problem = make_problem("box", "tanh", hidden=(4, 3))
    own = problem.rule(CONFIGS["lomaml"]).init(problem.params, np.random.default_rng(0))
    bias = own[f"{RULE}cell.bias"].unflatten(0, (4, 3))
    torch.testing.assert_close(bias, torch.tensor([0.0, 1.0, 0.0, 0.0])[:, None].expand(4, 3))


@pytest.mark.parametrize("outer", ["trpo", "ppo"])
def test_a_start_that_is_not_learned_stays_and_is_saved(outer):
    """The rule's parameters move, the tasks' start does not, and both come back from a file."""
    tasks = envs.make("point-goal", 6)
    name = "lomaml" if outer == "trpo" else "lomaml-ppo"
    config = catalogue.default(name)
    config = replace(
        config,
        inner=LearnedOptimizerConfig(size=3, learn_start=False),
        outer=TrpoConfig(query_fraction=1.0) if outer == "trpo" else config.outer,
        policy=replace(config.policy, hidden=(8,)),
    )
    cpu = torch.device("cpu")
    agent, other = (
        catalogue.build(tasks.spec, config, np.random.default_rng(seed), cpu) for seed in (0, 1)
    )
    env = tasks.open(3, 4, Workers(0))

    def update(subject, number):
        sampled = tasks.sample(3, np.random.default_rng(number))
        state, rounds = adaptation_rounds(subject, env, tasks.spec, sampled, 4, 1, (7, number), cpu)
        return subject.meta_update(state, rounds[-1], np.random.default_rng(number))

    before = {n: x.clone() for n, x in agent.state_dict().items()}
    for number in range(3):
        assert update(agent, number)["skipped"] == 0.0
    after = {n: x.clone() for n, x in agent.state_dict().items()}
    for part in ("layer0.weight", "layer1.bias", "log_std"):
        assert torch.equal(before[part], after[part]), part
    assert any(not torch.equal(before[n], after[n]) for n in after if n.startswith(RULE))
    other.load_state_dict(after)
    assert update(agent, 9) == update(other, 9)
