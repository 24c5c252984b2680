"""LSLR: step sizes of layers and steps, and the multi-step loss.

test_learned_rules.py compares its derivatives on policies with plain autograd task by task.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metarl.agents import catalogue, supervised
from metarl.agents.inner.lslr import SIZES, LslrConfig
from metarl.agents.inner.rule import NetworkShape, RuleInput
from metarl.agents.outer.adam import AdamConfig
from metarl.agents.supervised import ExampleObjective, SupervisedAgent
from metarl.config.settings import FewShotAgentConfig, NetworkConfig
from metarl.errors import UserError
from metarl.types import Examples, FewShotSpec, Params

CPU = torch.device("cpu")
SPEC = FewShotSpec("numbers", (1,), 1, False)
A, C, X = torch.tensor([2.0, 0.5]), torch.tensor([1.0, -3.0]), 0.7
"""Two tasks' losses a (x - c)^2 / 2, and the start x that they share."""


def rule(**settings: Any):
    return LslrConfig(**settings).build(NetworkShape({"x": (1,)}, 1, 1))


def stepped(own: Params, count: int, **settings: Any) -> torch.Tensor:
    """x of each task after gradient steps on a (x - c)^2 / 2."""
    one, params = rule(**settings), {"x": torch.full((2, 1), X), **own}
    for index in range(count):
        gradient = {"x": A[:, None] * (params["x"] - C[:, None])}
        given = RuleInput({"x": params["x"]}, gradient)
        params = {**params, **one.step(params, given, index)}
    return params["x"][:, 0]


def test_each_step_has_its_own_size():
    """A step of size s scales x - c by 1 - s a; beyond training the last size is shortened."""
    own = {f"{SIZES}x": torch.tensor([0.3, -0.2])}
    factors = [1 - 0.3 * A, 1 + 0.2 * A, 1 + 0.5 * 0.2 * A]
    left = X - C
    for count, factor in enumerate(factors, start=1):
        left = left * factor
        torch.testing.assert_close(stepped(own, count, steps=2), C + left)


def test_there_is_a_size_for_each_layer_and_step():
    shape = NetworkShape({"layer0.weight": (3, 2), "layer0.bias": (3,)}, 1, 1)
    params = {name: torch.zeros(size) for name, size in shape.shapes.items()}
    own = LslrConfig(lr=0.2, steps=4).build(shape).init(params, np.random.default_rng(0))
    assert {name: x.tolist() for name, x in own.items()} == {
        f"{SIZES}{name}": pytest.approx([0.2] * 4) for name in shape.shapes
    }


def agent_with(**settings: Any) -> SupervisedAgent:
    """An agent in float64 whose step sizes are uneven."""
    config = FewShotAgentConfig(
        name="x",
        inner=LslrConfig(lr=0.1, **settings),
        outer=AdamConfig(),
        network=NetworkConfig(hidden=(5,), activation="tanh"),
    )
    agent = SupervisedAgent(SPEC, config, np.random.default_rng(0), CPU)
    g = torch.Generator().manual_seed(1)
    agent.meta = {
        name: x.double() + 0.05 * torch.randn(x.shape, generator=g).double()
        for name, x in agent.meta.items()
    }
    return agent


def data() -> tuple[Examples, Examples]:
    g = torch.Generator().manual_seed(2)
    draws = [torch.randn(3, 6, 1, generator=g).double() for _ in range(4)]
    return Examples(*draws[:2]), Examples(*draws[2:])


def error(agent: SupervisedAgent, params: Params, examples: Examples, task: int) -> torch.Tensor:
    """The mean-squared error of one task at its own parameters."""
    inputs, targets = (x[task, None] for x in examples)
    return (
        (agent.network({n: x[None] for n, x in params.items()}, inputs) - targets).square().mean()
    )


def loss_of(agent: SupervisedAgent, meta: Params, share: float) -> torch.Tensor:
    """The meta-objective in a loop over tasks, by the papers' formulas."""
    support, query = data()
    steps, total = agent.steps, torch.zeros((), dtype=torch.float64)
    weights = [share / max(1, steps - 1)] * (steps - 1) + [1.0 - share]
    names = [name for name in meta if not name.startswith(SIZES)]
    for task in range(3):
        params = {name: meta[name] for name in names}
        for step, weight in enumerate(weights):
            loss = error(agent, params, support, task)
            slope = torch.autograd.grad(loss, list(params.values()), create_graph=True)
            params = {
                n: x - meta[f"{SIZES}{n}"][step] * g
                for (n, x), g in zip(params.items(), slope, strict=True)
            }
            total = total + weight * error(agent, params, query, task) / 3
    return total


@pytest.mark.parametrize("share", [0.0, 0.6])
@pytest.mark.parametrize("kept", [0, 5])
def test_the_meta_gradient_is_autograds(monkeypatch, share, kept):
    """In all parameters and all step sizes, with intermediate results kept and step by step."""
    monkeypatch.setattr(supervised, "KEPT_STEPS", kept)
    agent = agent_with(steps=3, multi_step=share)
    support, query = data()
    found, loss = ExampleObjective(agent, (support,) * 3, query).gradient(agent.meta)
    leaves = {name: x.clone().requires_grad_() for name, x in agent.meta.items()}
    expected = loss_of(agent, leaves, share)
    gradient = torch.autograd.grad(expected, list(leaves.values()))
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(found, dict(zip(leaves, gradient, strict=True)))


def test_the_share_of_earlier_steps_halves():
    one = rule(steps=3, multi_step=0.8, multi_step_half_life=100.0)
    assert one.query_weights(0) == pytest.approx((0.4, 0.4, 0.2))
    assert one.query_weights(100) == pytest.approx((0.2, 0.2, 0.6))
    stays = rule(steps=3, multi_step=0.8, multi_step_half_life=0.0)
    assert stays.query_weights(10**6) == pytest.approx((0.4, 0.4, 0.2))
    assert rule(steps=2).query_weights(7) == (0.0, 1.0)


def test_a_resumed_agent_goes_on_at_its_share():
    agent, other = agent_with(steps=2, multi_step=0.5), agent_with(steps=2, multi_step=0.5)
    agent.updates = 700
    other.load_state_dict(agent.state_dict())
    assert other.updates == 700
    assert "updates" not in agent_with(steps=2).state_dict()


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"multi_step": 0.5, "steps": 2}, "multi_step"),
        ({"multi_step_half_life": 10.0}, "multi_step_half_life"),
    ],
)
def test_settings_without_effect_are_refused(settings, key, problem):
    config = catalogue.default("lslr-trpo")
    config = replace(config, inner=replace(config.inner, **settings))
    with pytest.raises(UserError, match=rf"makes no use of agent\.inner\.{key}"):
        catalogue.build(problem.spec, config, np.random.default_rng(0), CPU)
