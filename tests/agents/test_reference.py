"""`reference.py` against arithmetic by hand, and the agents' route against it.

Other kinds of inner steps are compared with it in test_meta_gradient.py, test_inner_steps.py and
test_learned_rules.py; steps that the trust region accepts are compared here.
"""

from __future__ import annotations

import ast
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from metarl.agents import reference
from metarl.agents.batch import Batch
from metarl.agents.inner.sgd import SgdConfig
from metarl.agents.outer.trpo import Trpo, TrpoConfig
from metarl.agents.reference import TaskBatches
from metarl.config.settings import PolicyConfig
from metarl.networks.mlp import MlpPolicy
from metarl.types import EnvSpec

LR, STD, MEAN = 0.3, 0.8, 0.25
BIAS = "layer0.bias"


class Bandit:
    """A Gaussian policy of one parameter: its mean b. Every observation is zero, so b is a bias.

    log p(a) = -(a - b)^2 / (2 std^2) + constant. With p = sum w A / std^2 and
    q = sum w A a / std^2, the loss of a batch has the slope p b - q and the curvature p.
    """

    def __init__(self, steps: int):
        spec = EnvSpec("bandit", Box(-1, 1, (1,)), Box(-1, 1, (1,)), 1)
        self.policy = MlpPolicy(spec, PolicyConfig(hidden=()))
        self.fixed = {
            "layer0.weight": torch.zeros(1, 1).double(),
            "log_std": number(math.log(STD)),
        }
        self.meta = {BIAS: number(MEAN)}
        self.generator = torch.Generator().manual_seed(5)
        self.tasks = [
            TaskBatches([self.batch() for _ in range(steps)], self.batch()) for _ in range(3)
        ]

    def batch(self) -> Batch:
        """Advantages of both signs, whose mean is not zero: else the curvature p would be."""
        normal = partial(torch.randn, generator=self.generator, dtype=torch.float64)
        weights, obs = number(1 / 6).expand(6), torch.zeros(6, 1).double()
        return Batch(obs, normal(6, 1), 0.5 + normal(6), weights, normal(6))

    def inner(self, first_order: bool = False, lr: float = LR) -> reference.Adapt:
        return lambda meta, supports: reference.adapt(
            self.policy, {**self.fixed, **meta}, supports, lr, [BIAS], first_order
        )

    def by_hand(self, first_order: bool = False) -> tuple[float, float]:
        """The meta-gradient and the Hessian of the mean KL in b.

        b' = b - lr (p b - q) for each support, so db'/db is the product of 1 - lr p.
        """
        gradients, curvatures = [], []
        for supports, query in self.tasks:
            b, slope = MEAN, 1.0
            for p, q in map(moments, supports):
                b, slope = b - LR * (p * b - q), slope * (1.0 if first_order else 1.0 - LR * p)
            p, q = moments(query)
            gradients.append(slope * (q - p * b))
            curvatures.append(slope**2 / STD**2)
        return float(np.mean(gradients)), float(np.mean(curvatures))


def number(x: float) -> torch.Tensor:
    return torch.tensor([x], dtype=torch.float64)


def moments(batch: Batch) -> tuple[float, float]:
    credit = batch.weights * batch.advantages / STD**2
    return float(credit.sum()), float((credit * batch.actions[:, 0]).sum())


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_the_meta_gradient_of_a_gaussian_bandit(steps, first_order):
    bandit = Bandit(steps)
    inner = bandit.inner(first_order)
    objective = reference.meta_objective(bandit.policy, inner, bandit.meta, bandit.tasks)
    _, gradient, kl_hessian = reference.derivatives(objective, bandit.meta)
    slope, curvature = bandit.by_hand(first_order)
    assert gradient[BIAS].item() == pytest.approx(slope, rel=1e-10)
    product = kl_hessian({BIAS: number(2.0)})
    assert product[BIAS].item() == pytest.approx(2.0 * curvature, rel=1e-10)


def test_the_gradient_of_a_learned_step_size():
    """b' = b - alpha (p b - q): one batch's slope times the other's."""
    bandit = Bandit(1)
    meta = {**bandit.meta, f"lr.{BIAS}": number(LR)}
    inner = bandit.inner(lr=math.nan)
    objective = reference.meta_objective(bandit.policy, inner, meta, bandit.tasks)
    _, gradient, _ = reference.derivatives(objective, meta)
    expected = []
    for (support,), query in bandit.tasks:
        p, q = moments(support)
        after = MEAN - LR * (p * MEAN - q)
        p_query, q_query = moments(query)
        expected.append((q - p * MEAN) * (q_query - p_query * after))
    assert gradient[f"lr.{BIAS}"].item() == pytest.approx(np.mean(expected), rel=1e-10)
    assert gradient[BIAS].item() == pytest.approx(bandit.by_hand()[0], rel=1e-10)


def test_the_step_of_a_gaussian_bandit():
    """In one dimension it is sqrt(2 max_kl / (H + damping)), uphill. The KL of equal deviations
    is its own quadratic model, so that of the step is max_kl H / (H + damping)."""
    bandit, config = Bandit(1), TrpoConfig(max_kl=1e-4, damping=0.1)
    args = bandit.policy, bandit.inner(), bandit.meta, bandit.tasks
    meta, metrics = reference.meta_update(*args, config)
    slope, curvature = bandit.by_hand()
    step = math.copysign(math.sqrt(2e-4 / (curvature + 0.1)), slope)
    assert meta[BIAS].item() - MEAN == pytest.approx(step, rel=1e-8)
    assert metrics["kl"] == pytest.approx(1e-4 * curvature / (curvature + 0.1), rel=1e-6)
    assert metrics["line_search/backtracks"] == 0.0
    gained = metrics["surrogate/after"] - metrics["surrogate/before"]
    assert gained == pytest.approx(slope * step, rel=0.1)


def test_no_candidate_within_the_bound_keeps_the_old_parameters():
    """A step of no length gains nothing at any length."""
    bandit, config = Bandit(1), TrpoConfig(damping=1e300, backtracks=4)
    args = bandit.policy, bandit.inner(), bandit.meta, bandit.tasks
    meta, metrics = reference.meta_update(*args, config)
    assert meta is bandit.meta
    assert metrics["line_search/accepted"] == metrics["kl"] == 0.0
    assert metrics["line_search/backtracks"] == 4.0
    assert metrics["surrogate/after"] == metrics["surrogate/before"]


STEPS: dict[str, dict[str, Any]] = {
    "joint": {"steps": 0},
    "maml": {},
    "maml, two steps": {"steps": 2},
    "fomaml": {"first_order": True},
    "anil": {"adapted": "head"},
    "meta-sgd": {"learn_lr": True},
    "cavia": {"adapted": "context"},
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("space", ["box", "state", "scaled", "discrete"])
def test_the_agents_route_comes_to_the_same_meta_parameters(make_problem, textbook, name, space):
    """Gain, gradient, Hessian-vector product, and then the step that the line search accepts."""
    config, trpo = SgdConfig(LR, **STEPS[name]), TrpoConfig()
    problem = make_problem(space, "tanh", context=3 * (config.adapted == "context"))
    problem.params |= problem.rule(config).init(problem.params, np.random.default_rng(0))
    supports, query = [problem.batch() for _ in range(config.steps)], problem.batch()
    fast, loop = (
        problem.objective(config, supports, query),
        textbook(problem, config, supports, query),
    )

    gain, gradient, kl_hessian = reference.derivatives(loop.objective, problem.params)
    tangent = problem.tangent()
    assert float(fast.gain) == pytest.approx(gain, abs=1e-12)
    torch.testing.assert_close(fast.gradient, gradient)
    torch.testing.assert_close(fast.product(tangent), kl_hessian(tangent))

    expected, said = loop.meta_update(problem.params, trpo)
    exact = replace(trpo, query_fraction=1.0, product_dtype="float64")
    rng = np.random.default_rng(0)
    found, _, metrics = Trpo(exact).step(problem.params, (), fast.data, rng)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    assert said["line_search/accepted"] == 1.0
    assert {name: metrics[name] for name in said} == pytest.approx(said, rel=1e-6, abs=1e-9)


def test_an_inner_step_uphill_would_be_noticed(problem, textbook):
    """The comparison above tells theta - alpha grad L from theta + alpha grad L."""
    config, uphill = SgdConfig(LR), SgdConfig(-LR)
    supports, query, tangent = [problem.batch()], problem.batch(), problem.tangent()
    fast, loop = (
        problem.objective(config, supports, query),
        textbook(problem, uphill, supports, query),
    )
    gradient, product = loop.derivatives(problem.params, tangent)
    for ours, theirs in ((fast.gradient, gradient), (fast.product(tangent), product)):
        with pytest.raises(AssertionError):
            torch.testing.assert_close(ours, theirs, rtol=0.01, atol=0.0)


def test_a_small_inner_step_lowers_the_loss_of_its_support():
    """By lr times the squared slope, to first order."""
    bandit, lr = Bandit(1), 1e-6
    for supports, _ in bandit.tasks:
        p, q = moments(supports[0])
        after = bandit.inner(lr=lr)(bandit.meta, supports)[BIAS].item()
        loss_after, loss_before = (p * b * b / 2 - q * b for b in (after, MEAN))
        assert loss_after - loss_before == pytest.approx(-lr * (p * MEAN - q) ** 2, rel=1e-4)


def test_it_imports_nothing_that_it_is_compared_with():
    """Among agents it imports the batch alone, samples without algorithm, and settings' types."""
    tree = ast.parse(Path(reference.__file__).read_text(encoding="utf-8"))
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {m for m in modules if m.startswith("metarl.agents")} == {
        "metarl.agents.batch",
        "metarl.agents.outer.trpo",
    }
    networks = {m for m in modules if m.startswith("metarl.networks")}
    assert networks == {"metarl.networks.mlp"}
