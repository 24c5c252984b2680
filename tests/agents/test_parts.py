"""Updates in fixed parts: equal bits for any number of threads, and a whole that the parts make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from metarl.agents import catalogue, reptile, supervised
from metarl.agents.inner.belief import BeliefConfig
from metarl.agents.inner.ppo import PpoStepsConfig
from metarl.agents.inner.trial import TrialConfig
from metarl.agents.outer import trials
from metarl.agents.outer.trial_ppo import TrialPpoConfig
from metarl.config.settings import Config, FewShotConfig, PolicyConfig
from metarl.device import torch_threads
from metarl.envs import catalogue as envs
from metarl.envs.arrays.point_goal import PointGoal
from metarl.experiments.assembly import with_agent
from metarl.experiments.presets import preset
from metarl.sampling.rounds import adaptation_rounds
from metarl.sources import examples
from metarl.types import Params, Workers

CPU = torch.device("cpu")
Update = Callable[[], Params]
"""Makes an agent, takes an update, and returns its weights and metrics."""

RULES = {
    "gru": ("rl2", {"inner": TrialConfig("gru", 24, 1)}),
    "lstm": ("rl2", {"inner": TrialConfig("lstm", 24, 1)}),
    "varibad": ("varibad", {"inner": BeliefConfig(size=24)}),
    "transformer": ("rl2", {"inner": TrialConfig("transformer", 8, 1, layers=1, heads=2)}),
    "reptile-ppo": ("reptile-ppo", {"inner": PpoStepsConfig(epochs=2)}),
    "reptile-ppo to a kl": ("reptile-ppo", {"inner": PpoStepsConfig(target_kl=1e-3)}),
}
FEW_SHOT = [
    f"{tasks}-{agent}"
    for tasks in ("digits", "sinusoid")
    for agent in ("maml", "fomaml", "anil", "meta-sgd", "reptile", "lomaml", "meta-lstm", "gbml")
]
FEW_SHOT += ["digits-mapping", "sinusoid-mapping", "digits-protonet", "digits-from-scratch"]


@cache
def on_episodes(name: str) -> Update:
    """An update on 40 tasks of 2-D navigation, two rounds of 16 episodes: long enough for torch to
    divide a sum over a round among threads, where it may."""
    agent_name, settings = RULES[name]
    config = with_agent(preset("point-goal"), agent_name)
    assert isinstance(config, Config)
    policy = PolicyConfig((32,), "tanh")
    outer = {"outer": TrialPpoConfig(epochs=1, chunk=50)} if agent_name == "rl2" else {}
    settings = replace(config.agent, policy=policy, **settings, **outer)
    distribution = PointGoal("point-goal", "", 60)
    tasks = distribution.sample(40, np.random.default_rng(0))

    def begun() -> Any:
        return catalogue.build(distribution.spec, settings, np.random.default_rng(0), CPU)

    env = distribution.open(len(tasks), 16, Workers())
    asked = (begun(), env, distribution.spec, tasks, 16, 1, (0,), CPU)
    _, rounds = adaptation_rounds(*asked)

    def update() -> Params:
        agent = begun()
        state = agent.adapt(agent.begin(), rounds[0])
        metrics = agent.meta_update(state, rounds[1], np.random.default_rng(0))
        assert not metrics["skipped"]
        return {**agent.state_dict(), **_tensors(metrics)}

    return update


@cache
def on_examples(name: str) -> Update:
    """An update of a preset as it is, and how well it adapts before it."""
    config = preset(name)
    assert isinstance(config, FewShotConfig)
    tasks = envs.configured(config.env, None)
    rng, shots = np.random.default_rng(0), config.env.shots
    some = tasks.sample(config.sampling.tasks, rng)
    support, query = tasks.draw(some, shots, config.env.queries, rng)

    def update() -> Params:
        agent: Any = catalogue.build(tasks.spec, config.agent, np.random.default_rng(0), CPU)
        states = examples.adapted(agent, support, agent.steps)
        curve = examples.measure(agent, tasks.spec, states, query)
        metrics = agent.meta_update(states[-1], query, np.random.default_rng(0))
        assert not metrics["skipped"]
        return {**agent.state_dict(), **_tensors(metrics), "curve": curve}

    return update


def _tensors(metrics: dict[str, float]) -> Params:
    return {f"metric {name}": torch.tensor(x).double() for name, x in metrics.items()}


UPDATES: dict[str, Callable[[], Update]] = {
    **{name: lambda name=name: on_episodes(name) for name in RULES},
    **{name: lambda name=name: on_examples(name) for name in FEW_SHOT},
}


@pytest.mark.parametrize("name", UPDATES)
def test_any_number_of_threads_gives_the_same_bits(name: str):
    """Weights, metrics and predictions, with parts on one to four threads."""
    update, found = UPDATES[name](), []
    for threads in (1, 2, 3, 4):
        with torch_threads(threads):
            found.append(update())
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for key, x in found[0].items():
            assert torch.equal(other[key], x), key


@pytest.mark.parametrize("name", [name for name in UPDATES if name != "digits-reptile"])
def test_the_parts_make_the_whole(name: str, monkeypatch: pytest.MonkeyPatch):
    """One part of all tasks against many; learners do not know of each other's tasks."""
    update, found = UPDATES[name](), []
    for parts in (1, 3):
        for module in (reptile, supervised, trials):
            monkeypatch.setattr(module, "PART", 1)
            monkeypatch.setattr(module, "PARTS", parts)
        monkeypatch.setattr(trials, "PARALLEL", 1)
        found.append(update())
    whole, joined = found
    # Where a gradient is rounding alone, as that of a bias which batch norm cancels, Adam makes a
    # step of it. So its gradients are compared, in place of the weights, and `digits-reptile`, with
    # an Adam inside, is left out.
    gradients = [key for key in whole if key.startswith(("outer.mean.", "adam.mean."))]
    rest = [key for key in whole if key.startswith(("metric ", "curve")) or not gradients]
    for key in (*gradients, *rest):
        assert torch.allclose(joined[key], whole[key], rtol=2e-3, atol=2e-5), key
