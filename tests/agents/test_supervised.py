"""Agents on supervised tasks: known optima, closed forms, and routes that must agree."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metarl.agents import catalogue, supervised
from metarl.agents.derivatives.example_loss import ExampleLoss
from metarl.agents.inner.directions import DirectionsConfig
from metarl.agents.inner.learned_optimizer import LearnedOptimizerConfig
from metarl.agents.inner.lstm import MetaLstmConfig
from metarl.agents.inner.mapping import MappingConfig
from metarl.agents.inner.prototypes import PrototypesConfig
from metarl.agents.inner.rule import MEMORY, RULE
from metarl.agents.inner.sgd import SgdConfig
from metarl.agents.inner.training import TrainingConfig
from metarl.agents.outer.adam import Adam, AdamConfig
from metarl.agents.outer.reptile import ReptileConfig
from metarl.agents.supervised import ExampleObjective, SupervisedAgent
from metarl.config.settings import FewShotAgentConfig, NetworkConfig
from metarl.equations.adam import adam_start
from metarl.errors import UserError
from metarl.networks.supervised import network
from metarl.types import Examples, FewShotSpec, Metrics, Params

CPU = torch.device("cpu")
TASKS, EXAMPLES, LR = 3, 12, 0.2
SPECS = {
    "numbers": FewShotSpec("numbers", (3,), 2, classes=False),
    "classes": FewShotSpec("classes", (3,), 4, classes=True),
    "images": FewShotSpec("images", (2, 6, 6), 4, classes=True),
}
TANH = NetworkConfig(hidden=(5,), activation="tanh")
CONV = NetworkConfig("conv", hidden=(3, 4), activation="tanh", batch_norm=True)
SGD = SgdConfig(lr=LR)
RULES = {
    "maml": SGD,
    "maml-first-order": replace(SGD, first_order=True),
    "anil": replace(SGD, adapted="head"),
    "meta-sgd": replace(SGD, learn_lr=True),
    "lomaml": LearnedOptimizerConfig(lr=LR, size=3),
    "lomaml-still": LearnedOptimizerConfig(lr=LR, size=2, learn_lr=False, learn_start=False),
    "lomaml-first-order": LearnedOptimizerConfig(lr=LR, size=2, first_order=True),
    "lomaml-linear": LearnedOptimizerConfig(lr=LR, cell="linear"),
    "meta-lstm": MetaLstmConfig(lr=LR, forget=0.9, hidden=3),
    "meta-lstm-published": MetaLstmConfig(lr=LR, forget=0.9, hidden=0, first_order=True),
    "gbml": DirectionsConfig(lr=LR, embedding=3, hidden=4),
    "mapping": MappingConfig(embedding=3, hidden=4),
    "mapping-head": MappingConfig("head", embedding=3, hidden=4),
    "mapping-low-rank": MappingConfig("low-rank", rank=2, embedding=3, hidden=4),
}


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def drawn(kind: str, seed: int = 0) -> tuple[Examples, Examples]:
    """Support and query of K random tasks, in double precision."""
    spec, generator = SPECS[kind], torch.Generator().manual_seed(seed)

    def examples() -> Examples:
        inputs = normal(generator, TASKS, EXAMPLES, *spec.input_shape)
        if not spec.classes:
            return Examples(inputs, normal(generator, TASKS, EXAMPLES, spec.outputs))
        return Examples(inputs, torch.arange(EXAMPLES).remainder(spec.outputs).expand(TASKS, -1))

    return examples(), examples()


def agent_of(kind: str, inner: Any, outer: Any, shape: NetworkConfig) -> SupervisedAgent:
    """An agent of settings that no name stands for."""
    return of_spec(SPECS[kind], inner, outer, shape)


def of_spec(spec: FewShotSpec, inner: Any, outer: Any, shape: NetworkConfig) -> SupervisedAgent:
    config = FewShotAgentConfig(name="x", inner=inner, outer=outer, network=shape)
    agent = catalogue.build(spec, config, np.random.default_rng(0), CPU)
    assert isinstance(agent, SupervisedAgent)
    return agent


def built(kind: str, inner: Any, noise: float = 0.0, steps: int = 1, **outer) -> SupervisedAgent:
    """An agent in double precision, its parameters `noise` away from where they begin."""
    if not isinstance(inner, MappingConfig):  # which refuses them, and can take them
        inner = replace(inner, steps=steps)
    learner = agent_of(kind, inner, AdamConfig(**outer), CONV if kind == "images" else TANH)
    learner.rule.steps = steps
    generator = torch.Generator().manual_seed(5)
    learner.meta = {n: x + noise * normal(generator, *x.shape) for n, x in learner.meta.items()}
    learner.fixed = {name: x.double() for name, x in learner.fixed.items()}
    learner.outer_state = adam_start(learner.meta)
    return learner


def adapted(learner: Any, *supports: Examples) -> Params:
    """Every task's parameters, one step after another."""
    state = learner.begin()
    for support in supports:
        state = learner.adapt(state, support)
    return state.params


def updated(learner: SupervisedAgent, support: Examples, query: Examples) -> Metrics:
    """A meta-update, as training takes one."""
    state = learner.begin()
    for _ in range(learner.steps):
        state = learner.adapt(state, support)
    return learner.meta_update(state, query, np.random.default_rng(0))


def gradient_at(
    learner: SupervisedAgent, meta: Params, support: Examples, query: Examples
) -> tuple[Params, Tensor]:
    """The meta-gradient through as many steps as in training, and the loss that it is of."""
    return ExampleObjective(learner, (support,) * learner.steps, query).gradient(meta)


class Textbook:
    """MAML in a loop over tasks and steps, for torch.autograd to differentiate twice."""

    def __init__(self, learner: SupervisedAgent, steps: int):
        assert isinstance(learner.config.inner, SgdConfig)
        self.network, self.inner, self.steps = learner.network, learner.config.inner, steps
        self.loss = F.cross_entropy if learner.spec.classes else F.mse_loss

    def of(self, params: Params, inputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss(self.network(params, inputs[None])[0], targets)

    def query_loss(self, meta: Params, support: Examples, query: Examples) -> Tensor:
        start = {name: x for name, x in meta.items() if not name.startswith("lr.")}
        moved = list(start)[-2:] if self.inner.adapted == "head" else list(start)
        losses = []
        for task in range(TASKS):
            params = start
            for _ in range(self.steps):
                loss = self.of(params, support.inputs[task], support.targets[task])
                slopes = torch.autograd.grad(loss, [params[n] for n in moved], create_graph=True)
                sizes = [meta[f"lr.{n}"] if self.inner.learn_lr else LR for n in moved]
                steps = zip(moved, sizes, slopes, strict=True)
                params = {**params, **{n: params[n] - size * x for n, size, x in steps}}
            losses.append(self.of(params, query.inputs[task], query.targets[task]))
        return torch.stack(losses).mean()


def leaf(params: Params) -> Params:
    return {name: x.detach().clone().requires_grad_() for name, x in params.items()}


def assert_slopes(loss: Callable[[Params], Tensor], meta: Params, gradient: Params) -> None:
    """By finite differences along some ways; a maximum of pixels has kinks, so small ones."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        way = {name: normal(generator, *x.shape) for name, x in meta.items()}
        up, down = (
            float(loss(leaf({name: x + e * way[name] for name, x in meta.items()})).detach())
            for e in (1e-7, -1e-7)
        )
        slope = float(torch.stack([(gradient[n] * x).sum() for n, x in way.items()]).sum())
        assert slope == pytest.approx((up - down) / 2e-7, rel=1e-5, abs=1e-7)


kinds = pytest.mark.parametrize("kind", SPECS)
steps_taken = pytest.mark.parametrize("steps", [1, 3])


@kinds
@steps_taken
@pytest.mark.parametrize("rule", ["maml", "anil", "meta-sgd"])
def test_the_meta_gradient_is_the_finite_difference(kind, steps, rule):
    """The query's loss after adaptation is computed in a loop, by torch's own losses."""
    learner = built(kind, RULES[rule], noise=0.1, steps=steps)
    support, query = drawn(kind)
    textbook = Textbook(learner, steps)
    gradient, loss = gradient_at(learner, learner.meta, support, query)
    expected = textbook.query_loss(leaf(learner.meta), support, query)
    torch.testing.assert_close(loss, expected.detach())
    assert_slopes(lambda meta: textbook.query_loss(meta, support, query), learner.meta, gradient)


@kinds
@pytest.mark.parametrize("name", [n for n in RULES if "first" not in n and "published" not in n])
def test_the_meta_gradient_of_a_learned_rule_is_the_finite_difference(kind, name):
    learner = built(kind, RULES[name], noise=0.3, steps=2)
    support, query = drawn(kind)
    gradient, _ = gradient_at(learner, learner.meta, support, query)
    assert_slopes(
        lambda meta: gradient_at(learner, meta, support, query)[1], learner.meta, gradient
    )


def test_a_meta_update_is_adam_on_the_textbooks_loss():
    """Three of them, the gradient clipped, by torch's own optimizer."""
    learner = built("classes", RULES["maml"], lr=0.05, max_grad_norm=0.1)
    textbook, meta = Textbook(learner, 1), leaf(learner.meta)
    adam = torch.optim.Adam(list(meta.values()), lr=0.05)
    for seed in range(3):
        support, query = drawn("classes", seed)
        adam.zero_grad()
        textbook.query_loss(meta, support, query).backward()
        norm = torch.nn.utils.clip_grad_norm_(list(meta.values()), 0.1)
        adam.step()
        metrics = updated(learner, support, query)
        assert metrics == {"skipped": 0.0, "gradient_norm": pytest.approx(float(norm))}
        assert norm > 0.1
    for name, x in learner.meta.items():
        torch.testing.assert_close(x, meta[name].detach())


@kinds
@pytest.mark.parametrize("name", ["lomaml", "lomaml-linear", "gbml", "meta-lstm"])
@steps_taken
def test_untrained_it_is_maml(kind, name, steps):
    """Linear O, an O whose gain and shift are zero, directions at the identity, a forget gate of 1
    and a constant input gate: adapted parameters, and the meta-gradient in all that MAML has."""
    maml, learned = (built(kind, RULES[rule], steps=steps) for rule in ("maml", name))
    if name == "meta-lstm":
        learned.meta[f"{RULE}gates.bias"][1] = 60.0  # its sigmoid is 1
    support, query = drawn(kind)
    expected = adapted(maml, *[support] * steps)
    found = adapted(learned, *[support] * steps)
    torch.testing.assert_close({n: found[n] for n in expected}, expected)
    gradient, loss = gradient_at(maml, maml.meta, support, query)
    other, theirs = gradient_at(learned, learned.meta, support, query)
    torch.testing.assert_close({n: other[n] for n in gradient}, gradient)
    torch.testing.assert_close(theirs, loss)
    assert all(x.abs().max() > 0 for x in gradient.values())


@steps_taken
def test_a_linear_optimizer_is_gradient_descent_of_that_size(steps):
    """1.5 g with steps of 0.2 is g with steps of 0.3."""
    config = LearnedOptimizerConfig(lr=0.2, cell="linear", learn_lr=False)
    learned = built("numbers", config, steps=steps)
    learned.meta[f"{RULE}out"] = torch.tensor([1.5], dtype=torch.float64)
    maml = built("numbers", SgdConfig(lr=0.3), steps=steps)
    support, query = drawn("numbers")
    expected = adapted(maml, *[support] * steps)
    found = adapted(learned, *[support] * steps)
    torch.testing.assert_close({n: found[n] for n in expected}, expected)
    gradient, other = (gradient_at(x, x.meta, support, query)[0] for x in (maml, learned))
    torch.testing.assert_close({n: other[n] for n in gradient}, gradient)


LINE = FewShotSpec("line", (1,), 1, classes=False)
CENTRES = torch.tensor([[1.0, 0.0], [4.0, 2.0], [-2.0, 7.0]], dtype=torch.float64)
START = torch.tensor([5.0, -3.0], dtype=torch.float64)


def lines(centres: Tensor) -> Examples:
    """y = w x + b at x = 1 and -1, (w, b) a task's centre: the loss is |theta - centre|^2."""
    x = torch.tensor([1.0, -1.0], dtype=torch.float64).expand(len(centres), 2)[..., None]
    return Examples(x, centres[:, :1, None] * x + centres[:, 1:, None])


def straight(inner: Any, outer: Any) -> SupervisedAgent:
    """An agent whose network is w x + b, from START."""
    learner = of_spec(LINE, inner, outer, NetworkConfig(hidden=()))
    start = {"layer0.weight": START[:1, None], "layer0.bias": START[1:]}
    learner.meta = {**{name: x.double() for name, x in learner.meta.items()}, **start}
    return learner


def theta(learner: Any) -> Tensor:
    return torch.cat([learner.meta["layer0.weight"][0], learner.meta["layer0.bias"]])


@pytest.mark.parametrize("first_order", [False, True])
def test_the_meta_gradient_of_a_quadratic(first_order):
    """A step takes theta - c to 1 - 2 lr of it; the gradient at theta' is 2 (theta' - c'), and the
    meta-gradient is that, to first order, or that times 1 - 2 lr."""
    goals = CENTRES.flip(1)
    learner = straight(SgdConfig(lr=0.1, first_order=first_order), AdamConfig())
    gradient, loss = gradient_at(learner, learner.meta, lines(CENTRES), lines(goals))
    after = CENTRES + 0.8 * (START - CENTRES)
    slope = 2.0 * (after - goals).mean(0) * (1.0 if first_order else 0.8)
    torch.testing.assert_close(gradient["layer0.weight"][0], slope[:1])
    torch.testing.assert_close(gradient["layer0.bias"], slope[1:])
    torch.testing.assert_close(loss, (after - goals).square().sum(1).mean())


@pytest.mark.parametrize(
    "inner",
    [
        SgdConfig(lr=0.1, extra_step_scale=0.5),
        LearnedOptimizerConfig(lr=0.1, learn_lr=False, extra_step_scale=0.5),
        DirectionsConfig(lr=0.1, extra_step_scale=0.5),
    ],
)
def test_steps_beyond_the_trained_ones_are_scaled_as_asked(inner):
    """Half a step of 0.1 takes theta - c to 0.9 of it; untrained, learned rules step alike."""
    learner = straight(inner, AdamConfig())
    params = adapted(learner, *[lines(CENTRES)] * 3)
    expected = CENTRES + 0.8 * 0.9 * 0.9 * (START - CENTRES)
    torch.testing.assert_close(params["layer0.bias"], expected[:, 1:], rtol=1e-5, atol=1e-5)


def test_a_forget_gate_shrinks_what_it_forgets():
    """Untrained, whatever the gates see: theta' = 0.9 theta - 0.1 times the gradient."""
    learner = straight(MetaLstmConfig(lr=0.1, forget=0.9, steps=2), AdamConfig())
    after = START.expand_as(CENTRES)
    for _ in range(2):
        after = 0.9 * after - 0.2 * (after - CENTRES)
    params = adapted(learner, *[lines(CENTRES)] * 2)
    torch.testing.assert_close(params["layer0.bias"], after[:, 1:], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_a_task_that_is_solved_already_has_finite_derivatives(name):
    """Its gradient is zero, and so is its loss."""
    learner = straight(RULES[name], AdamConfig())
    solved = lines(START.expand(2, 2))
    gradient, loss = gradient_at(learner, learner.meta, solved, lines(CENTRES[:2]))
    assert loss.isfinite()
    assert all(bool(x.isfinite().all()) for x in gradient.values())
    assert any(bool(x.any()) for x in gradient.values())


class Given:
    """An objective with this gradient and loss."""

    def __init__(self, gradient: Tensor, loss: Tensor):
        self.found = {"x": gradient}, loss

    def gradient(self, meta: Params) -> tuple[Params, Tensor]:
        return self.found


@pytest.mark.parametrize("spoilt", ["gradient", "loss"])
def test_an_update_without_a_finite_way_is_none(spoilt):
    """Whichever is not finite: Adam's state stays too."""
    meta: Params = {"x": torch.ones(2)}
    outer = Adam(AdamConfig())
    gradient, loss = torch.ones(2), torch.ones(())
    (gradient if spoilt == "gradient" else loss).fill_(torch.nan)
    rng, given = np.random.default_rng(0), cast(Any, Given(gradient, loss))
    after, state, metrics = outer.step(meta, outer.init(meta), given, rng)
    assert (after, metrics) == (meta, {"skipped": 1.0})
    assert not any(bool(x.any()) for x in outer.state_dict(state).values())


KEPT = 0.8**6
"""Share of theta - c left by three steps of 0.1 on the support and three on the query."""


def test_reptile_on_quadratics_closes_in_on_the_mean_centre_at_the_known_rate():
    learner = straight(TrainingConfig(lr=0.1, steps=3), ReptileConfig(lr=0.4))
    rate = 1 - 0.4 * (1 - KEPT)
    for t in range(1, 30):
        before = theta(learner)
        metrics = updated(learner, lines(CENTRES), lines(CENTRES))
        found = theta(learner)
        torch.testing.assert_close(found - CENTRES.mean(0), rate**t * (START - CENTRES.mean(0)))
        assert metrics["reptile/distance"] == pytest.approx(float((found - before).norm()))


def test_serially_a_task_is_learned_from_where_the_one_before_had_led():
    """A task takes theta - c_i to q of it. So a round of them ends at q^3 theta + (1 - q) sum_i
    q^(3-i) c_i, not where a batch would, and rounds close in on where that leads to itself."""
    learner = straight(TrainingConfig(lr=0.1, steps=3), ReptileConfig(lr=0.4, serial=True))
    q = 1 - 0.4 * (1 - KEPT)
    led = (1 - q) * (q**2 * CENTRES[0] + q * CENTRES[1] + CENTRES[2])
    updated(learner, lines(CENTRES), lines(CENTRES))
    torch.testing.assert_close(theta(learner), q**3 * START + led)
    assert not torch.allclose(theta(learner), q * START + (1 - q) * CENTRES.mean(0), atol=0.1)
    for _ in range(40):
        updated(learner, lines(CENTRES), lines(CENTRES))
    torch.testing.assert_close(theta(learner), led / (1 - q**3))


@pytest.mark.parametrize("serial", [False, True])
def test_reptile_with_adam_outside_comes_to_the_centres_too(serial):
    outer = ReptileConfig(lr=0.05, optimizer="adam", serial=serial)
    learner = straight(TrainingConfig(lr=0.1, steps=3), outer)
    learner.outer_state = adam_start(learner.meta)
    updated(learner, lines(CENTRES), lines(CENTRES))
    assert float(learner.outer_state.count) == (3 if serial else 1)
    if not serial:  # its first step is `lr` along each coordinate
        torch.testing.assert_close(theta(learner) - START, torch.tensor([-0.05, 0.05]).double())
    for _ in range(400):
        updated(learner, lines(CENTRES), lines(CENTRES))
    torch.testing.assert_close(theta(learner), CENTRES.mean(0), atol=0.2, rtol=0)


@kinds
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("serial", [False, True])
def test_reptile_is_a_loop_of_torchs_optimizers(kind, optimizer, serial):
    """Task by task, the support first and then the query, whose optimizer goes on; single
    precision."""
    # A bias before a normalisation has no gradient, of whose sign Adam would make a step.
    shape = replace(CONV, batch_norm=False) if kind == "images" else TANH
    inner = TrainingConfig(lr=0.05, steps=2, optimizer=optimizer)
    learner = agent_of(kind, inner, ReptileConfig(lr=0.3, serial=serial), shape)
    support, query = (_single(x) for x in drawn(kind))
    loss = F.cross_entropy if SPECS[kind].classes else F.mse_loss
    meta, led = learner.meta, []
    for task in range(TASKS):
        params = leaf(meta)
        make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
        steps = make(list(params.values()), lr=0.05)
        for inputs, targets in (support, support, query, query):
            steps.zero_grad()
            loss(learner.network(params, inputs[task][None])[0], targets[task]).backward()
            steps.step()
        led.append({name: x.detach() for name, x in params.items()})
        if serial:
            meta = {name: x + 0.3 * (led[-1][name] - x) for name, x in meta.items()}
    if not serial:
        means = {name: torch.stack([x[name] for x in led]).mean(0) for name in meta}
        meta = {name: x + 0.3 * (means[name] - x) for name, x in meta.items()}
    updated(learner, support, query)
    for name, x in learner.meta.items():
        torch.testing.assert_close(x, meta[name], rtol=1e-4, atol=1e-5)


def _single(examples: Examples) -> Examples:
    return Examples(*(x.float() if x.is_floating_point() else x for x in examples))


@pytest.mark.parametrize("size", [1, 4, 5, 8])
def test_minibatches_are_one_order_of_the_examples_after_another(size):
    """All of one size, across the end of an order too, as in the published code."""
    inner = TrainingConfig(lr=0.1, minibatch=size)
    rule = straight(inner, ReptileConfig()).rule
    places = torch.arange(11.0).expand(2, -1)[..., None]
    found = [rule.minibatch(Examples(places, -places), step) for step in range(22)]
    for inputs, targets in found:
        assert inputs.shape == (2, size, 1)
        assert torch.equal(inputs[0], inputs[1])
        assert torch.equal(targets, -inputs)
    seen = torch.cat([x.inputs[0, :, 0] for x in found]).int().tolist()
    orders = [seen[i : i + 11] for i in range(0, len(seen), 11)]
    assert len(orders) == 2 * size
    assert all(sorted(order) == list(range(11)) for order in orders)
    assert len({tuple(order) for order in orders}) == len(orders)


def test_an_outer_adam_of_reptiles_usual_size_is_refused():
    with pytest.raises(UserError, match=r"agent\.outer\.lr is 1, and with Adam"):
        straight(TrainingConfig(), ReptileConfig(lr=1.0, optimizer="adam"))


def nearest_means(embedding: int = 3) -> SupervisedAgent:
    """A network that says its input times two, plus one."""
    shape = NetworkConfig(hidden=())
    learner = agent_of("classes", PrototypesConfig(embedding), AdamConfig(), shape)
    learner.meta = {
        "layer0.weight": 2.0 * torch.eye(3, dtype=torch.float64),
        "layer0.bias": torch.ones(3, dtype=torch.float64),
    }
    return learner


def around(corners: Tensor, seed: int) -> Examples:
    """Three points within 0.1 of each class's own corner [K, classes, 3]."""
    labels = torch.arange(4).repeat_interleave(3).expand(TASKS, -1)
    noise = 0.1 * torch.rand(TASKS, 12, 3, generator=torch.Generator().manual_seed(seed)) - 0.05
    return Examples(corners.gather(1, labels[..., None].expand(-1, -1, 3)) + noise, labels)


def test_prototypes_of_separable_points_classify_perfectly():
    """And their loss is the one by hand, example by example."""
    learner = nearest_means()
    corners = normal(torch.Generator().manual_seed(3), TASKS, 4, 3)
    support, query = around(corners, 0), around(corners, 1)
    state = learner.adapt(learner.begin(), support)
    logits = learner.predict(state, query.inputs)
    assert torch.equal(logits.argmax(-1), query.targets)
    losses = []
    for k in range(TASKS):
        x, y = support.inputs[k].numpy(), support.targets[k].numpy()
        means = np.stack([(2 * x[y == c] + 1).mean(axis=0) for c in range(4)])
        for point, label in zip(query.inputs[k].numpy(), query.targets[k].numpy(), strict=True):
            likely = np.exp([-(np.linalg.norm(2 * point + 1 - mean) ** 2) for mean in means])
            losses.append(-np.log(likely[label] / likely.sum()))
    found = float(gradient_at(learner, learner.meta, support, query)[1])
    assert found == pytest.approx(np.mean(losses), rel=1e-9)


def test_prototypes_are_means_over_all_that_was_seen():
    """In one step, in two, or the same twice; before the first all classes are as likely."""
    learner = nearest_means()
    corners = normal(torch.Generator().manual_seed(3), TASKS, 4, 3)
    one, two, query = (around(corners, seed) for seed in range(3))
    both = Examples(*(torch.cat(x, 1) for x in zip(one, two, strict=True)))

    def after(*supports: Examples) -> Tensor:
        state = learner.begin()
        for support in supports:
            state = learner.adapt(state, support)
        return learner.predict(state, query.inputs)

    torch.testing.assert_close(after(one, two), after(both))
    torch.testing.assert_close(after(one, one), after(one))
    assert not torch.allclose(after(one), after(both))
    assert torch.equal(after(), torch.zeros(TASKS, 12, 4).double())


def test_a_prototypes_update_goes_down_the_query_loss():
    """By Adam's first step, `lr` against the sign of the finite difference."""
    learner = nearest_means()
    corners = normal(torch.Generator().manual_seed(3), TASKS, 4, 3)
    support, query = around(corners, 0), around(corners, 1)
    learner.outer_state = adam_start(learner.meta)
    before, weight = learner.meta, learner.meta["layer0.weight"]
    for row in range(3):
        way = torch.zeros_like(weight)
        way[row, row] = 1e-6
        up, down = (
            float(
                gradient_at(learner, {**before, "layer0.weight": weight + s * way}, support, query)[
                    1
                ]
            )
            for s in (1, -1)
        )
        updated(learner, support, query)
        moved = float(learner.meta["layer0.weight"][row, row] - weight[row, row])
        assert moved == pytest.approx(-1e-3 * np.sign(up - down), rel=1e-2)
        learner.meta, learner.outer_state = before, adam_start(before)


@kinds
@pytest.mark.parametrize("name", [name for name in RULES if name.startswith("mapping")])
def test_a_mapping_knows_no_order(kind, name):
    """The order of examples and supports changes nothing; one support twice is one, and several
    are all of them at once."""
    learner = built(kind, RULES[name], noise=0.3)
    one, two = drawn(kind)
    order = torch.randperm(EXAMPLES, generator=torch.Generator().manual_seed(0))
    mixed = Examples(*(x[:, order] for x in two))
    three, _ = drawn(kind, 1)
    every = Examples(*(torch.cat(x, 1) for x in zip(one, two, three, strict=True)))
    first = adapted(learner, one)
    torch.testing.assert_close(adapted(learner, mixed), adapted(learner, two))
    torch.testing.assert_close(adapted(learner, mixed, one), adapted(learner, one, two))
    torch.testing.assert_close(adapted(learner, one, one), first)
    torch.testing.assert_close(adapted(learner, one, two, three), adapted(learner, every))
    other = adapted(learner, two)
    assert any(
        not torch.allclose(x, other[n]) for n, x in first.items() if n in learner.rule.adapted
    )


def test_what_a_rule_is_shown_of_examples():
    inputs = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])

    def shown(spec: FewShotSpec, targets: Tensor) -> Any:
        loss = ExampleLoss(spec, network(spec, spec.outputs, TANH))
        given = loss.inputs(Examples(inputs, targets), frozenset({"samples"}))
        assert given["samples"].shape[-1] == loss.sample_dim
        assert given["weights"].tolist() == [[0.5, 0.5]]
        return given["samples"].tolist()

    spec = FewShotSpec("x", (1, 2), 1, classes=False)
    assert shown(spec, torch.tensor([[[5.0], [6.0]]])) == [[[1, 2, 5], [3, 4, 6]]]
    spec = FewShotSpec("x", (1, 2), 3, classes=True)
    assert shown(spec, torch.tensor([[2, 0]])) == [[[1, 2, 0, 0, 1], [3, 4, 1, 0, 0]]]


@pytest.mark.parametrize("kind", ["numbers", "images"])
@pytest.mark.parametrize("name", RULES)
def test_step_by_step_the_gradient_is_the_kept_one(kind, name, monkeypatch):
    """Seven steps, through what a rule remembers, and where tasks start from what stays fixed."""
    learner = built(kind, RULES[name], noise=0.2, steps=7)
    support, query = drawn(kind)
    found = []
    for kept in (99, 0):
        monkeypatch.setattr(supervised, "KEPT_STEPS", kept)
        found.append(gradient_at(learner, learner.meta, support, query))
    (whole, loss), (stepwise, other) = found
    torch.testing.assert_close(other, loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(stepwise, whole)
    remembers = name.startswith(("lomaml", "meta-lstm", "mapping")) and name != "lomaml-linear"
    after = adapted(learner, support)
    assert any(n.startswith(MEMORY) for n in after) == remembers
    assert ("layer0.weight" in whole) == (name != "lomaml-still")


class Held:
    """Bytes that derivatives keep, at most, at one time; memory of several tensors counts once."""

    def __init__(self):
        self.now = self.most = 0
        self.users: dict[int, int] = {}

    class Kept:
        def __init__(self, x: Tensor):
            self.x = x

    def pack(self, x: Tensor) -> Kept:
        memory, kept = x.untyped_storage(), self.Kept(x)
        place, size = memory.data_ptr(), memory.nbytes()
        if not self.users.get(place):
            self.now += size
            self.most = max(self.most, self.now)
        self.users[place] = self.users.get(place, 0) + 1
        weakref.finalize(kept, self.freed, place, size)
        return kept

    def freed(self, place: int, size: int) -> None:
        self.users[place] -= 1
        if not self.users[place]:
            self.now -= size


@pytest.mark.parametrize("name", ["maml", "lomaml", "gbml"])
def test_twenty_steps_of_a_convolution_fit_the_memory_of_one(name, monkeypatch):
    """Step by step, what derivatives keep does not grow with the steps."""
    support, query = drawn("images")

    def most(steps: int, kept: int) -> int:
        monkeypatch.setattr(supervised, "KEPT_STEPS", kept)
        learner, held = built("images", RULES[name], steps=steps), Held()
        with torch.autograd.graph.saved_tensors_hooks(held.pack, lambda kept: kept.x):
            gradient_at(learner, learner.meta, support, query)
        return held.most

    whole, stepwise, short = most(20, 99), most(20, 5), most(6, 5)
    assert whole > 8 * stepwise
    assert stepwise < 1.1 * short
