"""Updates as graphs: what depends on shapes alone can be recorded once and then repeated.

On a processor the recorder is `make_fx`. It lists the operations of a call, and the list must give
on other data of the same shapes what a call gives.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from invented import played
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from metarl.agents import batch as batches
from metarl.agents import catalogue, policy_gradient
from metarl.agents.derivatives.by_hand import gain_and_kl
from metarl.agents.outer.ppo import Ppo
from metarl.agents.outer.trpo import Trpo, TrpoConfig
from metarl.agents.policy_gradient import MetaBatch, PolicyGradientAgent
from metarl.config.settings import AdvantageConfig
from metarl.device import torch_threads
from metarl.graphs import Flat, unseen
from metarl.types import EnvSpec

CPU = torch.device("cpu")
SPACES = {"box": Box(-1, 2, (2,)), "discrete": Discrete(3)}
CASES = [
    ("maml-trpo", "box", {}),
    ("maml-trpo", "box", {"std": "state"}),
    ("maml-trpo", "box", {"activation": "tanh"}),
    ("maml-trpo", "box", {"scale_to_box": True}),
    ("maml-trpo", "discrete", {}),
    ("meta-sgd-trpo", "box", {}),
    ("anil-trpo", "box", {}),
    ("cavia-trpo", "box", {"context": 3}),
    ("joint-trpo", "box", {}),
    ("promp", "box", {}),
    ("maml-ppo", "discrete", {}),
    ("dice-maml", "box", {}),
    ("maml-vpg", "box", {}),
]  # fmt: skip
cases = pytest.mark.parametrize(("name", "space", "policy"), CASES)


def built(name: str, space: str, policy: dict[str, Any], device=CPU) -> PolicyGradientAgent:
    config, spec = catalogue.default(name), EnvSpec("any", Box(-1, 1, (3,)), SPACES[space], 12)
    if isinstance(config.outer, TrpoConfig):
        outer = replace(config.outer, query_fraction=1.0, product_dtype="float32", cg_iterations=3)
        config = replace(config, outer=outer)
    config = replace(config, policy=replace(config.policy, hidden=(8, 8), **policy))
    agent = catalogue.build(spec, config, np.random.default_rng(0), device)
    assert isinstance(agent, PolicyGradientAgent)
    return agent


def functions(agent: PolicyGradientAgent, seed: int) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Returns all that an update calls, with arguments from episodes of that seed."""
    state, found = agent.begin(), {}
    for index in range(agent.steps):
        data = played(agent, state, seed + index)
        batch = agent.batch(data)
        args = (agent.policy, agent.inner, state.params, batch, index, 0)
        found[f"adapted {index}"] = (policy_gradient.adapted, args)
        state = agent.adapt(state, data)
    query = played(agent, state, seed + 9)
    config, fits = AdvantageConfig(), batches._normal_equations(query, AdvantageConfig(), None)
    found["normal equations"] = (batches._normal_equations, (query, config, None))
    found["batch"] = (batches._batch, (query, fits, [x.solved() for x in fits], config))
    objective = agent.objective(state, query)
    return found | outer_functions(agent, objective)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """A recorder sees its own thread. One share of the tasks, as on a GPU, makes a short list."""
    monkeypatch.setattr("metarl.agents.batch.PARTS", 1)
    with torch_threads(1):
        yield


def outer_functions(
    agent: PolicyGradientAgent, objective: MetaBatch
) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    meta, outer = agent.meta, agent.outer
    if isinstance(outer, Trpo):
        step = outer.direction(objective, meta, None)
        return {
            "direction": (outer.direction, (objective, meta, None)),
            "gain_and_kl": (gain_and_kl, (objective, meta, step.old)),
        }
    if isinstance(outer, Ppo):
        lr = torch.tensor(0.1, dtype=torch.float64, device=agent.device)
        state = outer.init(meta)
        return {
            "epoch": (outer.epoch, (objective, meta, state, lr)),
            "evaluate": (outer.evaluate, (objective, meta)),
        }
    return {"gradient": (MetaBatch.gradient, (objective, meta))}


@cases
def test_another_batch_takes_the_same_operations(name, space, policy):
    agent = built(name, space, policy)
    first, second = functions(agent, 0), functions(agent, 50)
    for label, (function, args) in first.items():
        flat, other = Flat.of(args), Flat.of(second[label][1])
        assert flat.key() == other.key(), label

        def call(*tensors: Tensor, flat=flat, function=function):
            return Flat.of(function(*flat.filled(tensors))).tensors

        with unseen():
            recorded = make_fx(call)(*flat.tensors)
        found = recorded(*other.tensors)
        expected = call(*other.tensors)
        assert found
        for x, y in zip(found, expected, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-6)
        before = call(*flat.tensors)
        assert any(not torch.equal(x, y) for x, y in zip(expected, before, strict=True)), label


def test_what_has_ended_changes_nothing_any_more():
    """Conjugate gradient that may look stops early; one that may not comes to the same bits."""
    agent = built("maml-trpo", "box", {})
    assert isinstance(agent.outer, Trpo)
    agent.outer = Trpo(replace(agent.outer.config, damping=1e6))  # two products solve it
    _, args = functions(agent, 0)["direction"]
    seen = agent.outer.direction(*args)
    with unseen():
        blind = agent.outer.direction(*args)
    assert int(seen.products) < agent.outer.config.cg_iterations
    for x, y in zip(Flat.of(seen).tensors, Flat.of(blind).tensors, strict=True):
        assert torch.equal(x, y)


def eager(function: Any, *args: Any) -> Any:
    """Returns a call without a graph."""
    own = getattr(function, "__self__", None)
    return function.__wrapped__(*args) if own is None else function.__wrapped__(own, *args)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@cases
def test_a_graph_gives_what_a_call_gives(name, space, policy, recwarn):
    """A call, a recording, and its repetition, each on other data."""
    agent = built(name, space, policy, torch.device("cuda"))
    for seed in (0, 50, 100):
        for function, args in functions(agent, seed).values():
            found, expected = function(*args), eager(function, *args)
            for x, y in zip(Flat.of(found).tensors, Flat.of(expected).tensors, strict=True):
                torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-5)
    assert not [w for w in recwarn if "without a CUDA graph" in str(w.message)]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_nothing_waits_for_the_gpu_within_a_direction():
    agent = built("maml-trpo", "box", {}, torch.device("cuda"))
    function, args = functions(agent, 0)["direction"]
    torch.cuda.set_sync_debug_mode("error")
    try:
        eager(function, *args)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tf32_points_where_float32_does():
    agent = built("maml-trpo", "box", {}, torch.device("cuda"))
    assert isinstance(agent.outer, Trpo)
    _, args = functions(agent, 0)["direction"]
    steps = [
        Trpo(replace(agent.outer.config, product_dtype=dtype)).direction(*args).step
        for dtype in ("float32", "tf32")
    ]
    assert float(torch.cosine_similarity(*steps, dim=0)) >= 0.999
