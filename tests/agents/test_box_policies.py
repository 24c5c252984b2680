"""The options of Gaussian policies, by what agents learn with them where the optimum is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import box_probes
import numpy as np
import pytest
import torch
from box_probes import FarBox, Noise, OneSidedBox
from gymnasium.spaces import Box

from metarl.agents import catalogue
from metarl.config.settings import PolicyConfig
from metarl.device import torch_threads
from metarl.sampling.collect import returns_of
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import EnvSpec, Trajectories, Workers

CPU = torch.device("cpu")
TASKS, EPISODES, JUDGED = 4, 60, 200
INNER: dict[str, Any] = {"lr": 0.05}
OUTER: dict[str, Any] = {
    "lr": 0.03,
    "epochs": 4,
    "minibatches": 2,
    "max_kl": 0.1,
    "query_fraction": 1.0,
    "product_dtype": "float32",
}
OF_AGENTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "reptile-ppo": ({"lr": 0.02, "epochs": 5, "minibatches": 2, "steps": 1}, {"lr": 1.0}),
    "rl2": ({"steps": 0}, {"lr": 0.02}),
}


@pytest.fixture(autouse=True)
def one_thread():
    """More would wait for each other in products as small as these."""
    with torch_threads(1):
        yield


def with_known(rule: Any, settings: dict[str, Any]) -> Any:
    """A rule with those of the settings that it has."""
    return replace(rule, **{name: x for name, x in settings.items() if hasattr(rule, name)})


def config_of(name: str, **policy: Any) -> Any:
    """Settings with which an agent learns fast."""
    config, (inner, outer) = catalogue.default(name), OF_AGENTS.get(name, ({}, {}))
    return replace(
        config,
        inner=with_known(config.inner, {**INNER, **inner}),
        outer=with_known(config.outer, {**OUTER, **outer}),
        policy=replace(config.policy, hidden=(8,), activation="tanh", **policy),
    )


def trained(
    name: str, env: type[box_probes.BoxProbeEnv], updates: int, **policy: Any
) -> list[Trajectories]:
    """Fresh episodes of an agent after so many updates: before adaptation and after each step."""
    probe = box_probes.BoxProbe(env)
    agent = catalogue.build(probe.spec, config_of(name, **policy), np.random.default_rng(0), CPU)
    rng = np.random.default_rng(1)

    def play(episodes: int, *key: int) -> tuple[Any, list[Trajectories]]:
        opened = probe.open(TASKS, episodes, Workers(0))
        tasks = probe.sample(TASKS, rng)
        steps = agent.steps
        return adaptation_rounds(agent, opened, probe.spec, tasks, episodes, steps, key, CPU)

    for update in range(updates):
        state, rounds = play(EPISODES, 7, 0, update)
        assert agent.meta_update(state, rounds[-1], rng)["skipped"] == 0.0
    return play(JUDGED, 7, 1)[1]


def mean_return(episodes: Trajectories) -> float:
    return float(returns_of(episodes).mean())


def deviations(episodes: Trajectories) -> tuple[float, float]:
    """The mean deviations of the policy in the calm state and in the other."""
    behaviour: Any = episodes.behaviour
    calm = episodes.obs[:, 0, :, 0] == 1.0
    std = behaviour.log_std.exp()[:, 0, :, 0]
    return float(std[calm].mean()), float(std[~calm].mean())


@pytest.mark.parametrize(
    ("name", "updates"),
    [
        ("joint-trpo", 10),
        ("cavia-trpo", 16),
        ("maml-ppo", 10),
        ("maml-vpg", 12),
        ("promp", 10),
        ("e-maml", 12),
        ("dice-maml", 10),
        ("reptile-ppo", 12),
    ],
)
def test_noise_is_learned_where_it_pays_and_precision_where_that_does(name, updates):
    """Before adaptation, since all tasks are alike. No shared deviation is as good as this."""
    first, *_ = trained(name, Noise, updates, std="state")
    assert mean_return(first) > 0.5 * (Noise.optimum + Noise.best_shared)
    calm, noisy = deviations(first)
    assert calm < 0.45
    assert noisy == pytest.approx(Noise.best_std, abs=0.35)


@pytest.mark.parametrize("name", ["joint-trpo", "promp"])
def test_a_shared_deviation_is_a_compromise_there(name):
    """The probe above tells one from the other: here it comes to half the best deviation."""
    first, *_ = trained(name, Noise, 12)
    assert mean_return(first) == pytest.approx(Noise.best_shared, abs=0.2)
    calm, noisy = deviations(first)
    assert calm == noisy == pytest.approx(0.5 * Noise.best_std, abs=0.2)


@pytest.mark.parametrize("name", ["maml-trpo", "promp", "rl2"])
def test_a_box_far_from_zero_is_learned_sooner_by_a_policy_scaled_to_it(name):
    """Returns after the last adaptation step, of which the optimum is 0."""
    plain, scaled = (
        mean_return(trained(name, FarBox, 10, scale_to_box=scale)[-1]) for scale in (False, True)
    )
    assert scaled > plain + 0.5
    assert scaled > -1.0


def test_a_box_with_one_infinite_side_is_learned_too():
    plain, scaled = (
        mean_return(trained("maml-trpo", OneSidedBox, 10, scale_to_box=scale)[-1])
        for scale in (False, True)
    )
    assert scaled > plain + 0.2
    assert scaled > -0.6


@pytest.mark.parametrize(
    ("name", "updates"), [("maml-trpo", 0), ("promp", 2), ("reptile-ppo", 1), ("rl2", 2)]
)
def test_learning_does_not_depend_on_where_the_box_is(name, updates):
    """Box(-1, 1) and the same box elsewhere lead to the same actions in their units."""

    class NearBox(FarBox):
        acted = Box(-1.0, 1.0, (2,))

    near = trained(name, NearBox, updates)[-1]
    far = trained(name, FarBox, updates, scale_to_box=True)[-1]
    middle, half = torch.tensor([2.5, 4.5]), torch.tensor([1.0, 2.0])
    torch.testing.assert_close(far.actions, middle + half * near.actions, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(far.rewards, near.rewards, atol=1e-3, rtol=1e-3)


def test_the_head_has_the_outputs_for_the_deviation():
    """ANIL adapts them, and with them the deviation of each state apart."""
    spec = EnvSpec("problem", Box(0.0, 1.0, (2,)), Box(-1.0, 1.0, (3,)), 2)
    policy = PolicyConfig(hidden=(8,), std="state")
    config = replace(catalogue.default("anil-trpo"), policy=policy)
    agent: Any = catalogue.build(spec, config, np.random.default_rng(0), CPU)
    assert agent.rule.adapted == ("layer1.weight", "layer1.bias")
    assert agent.meta["layer1.weight"].shape == (6, 8)
    assert "log_std" not in agent.meta
