"""The mapping of each class's examples to its row of the last layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.agents import catalogue, supervised
from metarl.agents.inner.mapping import MappingConfig
from metarl.agents.outer.adam import AdamConfig
from metarl.agents.supervised import ExampleObjective, SupervisedAgent
from metarl.config.settings import FewShotAgentConfig, NetworkConfig
from metarl.equations.adam import adam_start
from metarl.errors import UserError
from metarl.types import Examples, FewShotSpec

IMAGES = FewShotSpec("images", (1, 6, 6), 3, classes=True)
VECTORS = FewShotSpec("vectors", (4,), 3, classes=True)
CONV = NetworkConfig("conv", hidden=(5, 4), activation="tanh")
MLP = NetworkConfig(hidden=(5,), activation="tanh")
RULE = MappingConfig("classes", hidden=6)
K, SHOTS = 2, 4


def drawn(spec: FewShotSpec, seed: int = 0) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    shape = (K, spec.outputs * SHOTS, *spec.input_shape)
    inputs = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return Examples(inputs, torch.arange(spec.outputs).repeat(SHOTS).expand(K, -1))


def built(
    spec: FewShotSpec, noise: float, rule: MappingConfig = RULE, lr: float = 1e-3
) -> SupervisedAgent:
    """An agent in double precision, its parameters `noise` away from where they begin."""
    shape = CONV if spec is IMAGES else MLP
    config = FewShotAgentConfig(name="x", inner=rule, outer=AdamConfig(lr=lr), network=shape)
    agent = catalogue.build(spec, config, np.random.default_rng(0), torch.device("cpu"))
    generator = torch.Generator().manual_seed(5)
    agent.meta = {
        n: x.double() + noise * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        for n, x in agent.meta.items()
    }
    agent.outer_state = adam_start(agent.meta)
    return agent


def adapted(agent: SupervisedAgent, *supports: Examples):
    state = agent.begin()
    for support in supports:
        state = agent.adapt(state, support)
    return state


@pytest.mark.parametrize("spec", [IMAGES, VECTORS])
def test_before_training_it_is_a_nearest_mean_by_inner_products(spec):
    """Beside the last layer's own rows: logit c = f(x).(e_c - m) / sqrt(n)."""
    agent, support, query = built(spec, 0.0), drawn(spec), drawn(spec, 1)
    state = adapted(agent, support)
    said = agent.predict(state, query.inputs) - agent.predict(agent.begin(), query.inputs)
    seen, asked = (agent.network.features(agent.meta, x.inputs) for x in (support, query))
    for task in range(K):
        means = torch.stack([seen[task][support.targets[task] == c].mean(0) for c in range(3)])
        apart = (means - means.mean(0)) / means.shape[1] ** 0.5
        torch.testing.assert_close(said[task], asked[task] @ apart.T)


@pytest.mark.parametrize("spec", [IMAGES, VECTORS])
def test_another_order_of_the_classes_is_the_same_order_of_the_answers(spec):
    """But for the last layer's own rows, which are equal here."""
    agent, support, query = built(spec, 0.3), drawn(spec), drawn(spec, 1)
    for name in agent.rule.adapted:
        agent.meta[name] = torch.zeros_like(agent.meta[name])
    order = torch.tensor([2, 0, 1])
    other = Examples(support.inputs, order[support.targets])
    first = agent.predict(adapted(agent, support), query.inputs)
    second = agent.predict(adapted(agent, other), query.inputs)
    torch.testing.assert_close(second[..., order], first)
    assert not torch.allclose(second, first)


def test_a_support_twice_is_one_and_two_are_both_at_once():
    agent, one, two = built(VECTORS, 0.3), drawn(VECTORS), drawn(VECTORS, 1)
    both = Examples(*(torch.cat(x, 1) for x in zip(one, two, strict=True)))
    pairs = [((one, one), (one,)), ((one, two), (both,)), ((two, one), (both,))]
    for some, others in pairs:
        after, expected = adapted(agent, *some).params, adapted(agent, *others).params
        for name in agent.rule.adapted:
            torch.testing.assert_close(after[name], expected[name])


def test_the_meta_gradient_is_a_finite_difference(monkeypatch):
    """Compares it in three random directions, and with the gradient of one step at a time."""
    agent, support, query = built(IMAGES, 0.3), drawn(IMAGES), drawn(IMAGES, 1)
    objective = ExampleObjective(agent, (support, support), query)
    gradient, _ = objective.gradient(agent.meta)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        way = {
            n: torch.randn(x.shape, generator=generator, dtype=torch.float64)
            for n, x in agent.meta.items()
        }
        ends = [
            objective.gradient({n: x + s * way[n] for n, x in agent.meta.items()})[1]
            for s in (1e-6, -1e-6)
        ]
        along = torch.stack([(gradient[n] * x).sum() for n, x in way.items()]).sum()
        assert float(along) == pytest.approx(float((ends[0] - ends[1]) / 2e-6), rel=1e-5)
    monkeypatch.setattr(supervised, "KEPT_STEPS", 0)
    for name, x in objective.gradient(agent.meta)[0].items():
        torch.testing.assert_close(gradient[name], x)


def test_numbers_have_no_classes_to_map():
    spec = FewShotSpec("numbers", (3,), 2, classes=False)
    with pytest.raises(UserError, match=r"inner.deltas is 'classes', .*\n  take .* low-rank"):
        built(spec, 0.0)


def test_it_tells_unseen_classes_apart():
    """Clusters at random places are new classes in every task: chance is a third."""
    rng, agent = np.random.default_rng(0), built(VECTORS, 0.0, replace(RULE, hidden=16), lr=0.01)

    def tasks() -> list[Examples]:
        places = rng.normal(size=(16, 3, 1, 4))
        found = []
        for _ in range(2):
            inputs = places + 0.3 * rng.normal(size=(16, 3, SHOTS, 4))
            labels = torch.arange(3).repeat_interleave(SHOTS).expand(16, -1)
            found.append(Examples(torch.tensor(inputs).flatten(1, 2), labels))
        return found

    for _ in range(150):
        support, query = tasks()
        agent.meta_update(adapted(agent, support), query, rng)
    support, query = tasks()
    found = agent.predict(adapted(agent, support), query.inputs).argmax(-1)
    assert float((found == query.targets).double().mean()) > 0.85
