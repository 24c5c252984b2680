"""Minibatch steps of PPO and steps of a memory as graphs: only shapes decide what they do.

On a processor the recorder is `make_fx`, as in test_graphed.py.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from metarl.agents import catalogue
from metarl.agents.inner.ppo import PpoStepsConfig
from metarl.agents.inner.trial import TrialConfig
from metarl.agents.outer.trial_ppo import TrialPpoConfig
from metarl.agents.outer.trials import Descent
from metarl.config.settings import Config, NormalisationConfig, PolicyConfig
from metarl.device import torch_device, torch_threads
from metarl.envs.arrays.point_goal import PointGoal
from metarl.experiments.presets import preset
from metarl.graphs import Flat, unseen
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import Trajectories, Workers

TASKS, EPISODES, STEPS = 4, 3, 9
CPU = torch.device("cpu")
Function = tuple[Callable[..., Any], tuple[Any, ...]]

RULES: dict[str, tuple[Any, ...]] = {
    "gru": ("rl2", TrialConfig("gru", 6, 1), TrialPpoConfig(chunk=7)),
    "gru, stored": ("rl2", TrialConfig("gru", 6, 1), TrialPpoConfig(chunk=7, memory="stored")),
    "lstm": ("rl2", TrialConfig("lstm", 6, 1), TrialPpoConfig(chunk=7)),
    "rl2 to a kl": ("rl2", TrialConfig("gru", 6, 1), TrialPpoConfig(target_kl=1e-5)),
    "reptile": ("reptile-ppo", PpoStepsConfig(entropy=0.1), None),
    "reptile by sgd": ("reptile-ppo", PpoStepsConfig(optimizer="sgd"), None),
    "reptile, linear": ("reptile-ppo", PpoStepsConfig(baseline="linear"), None),
    "reptile to a kl": ("reptile-ppo", PpoStepsConfig(target_kl=1e-3), None),
}
rules = pytest.mark.parametrize("name", RULES)


@pytest.fixture(autouse=True)
def _one_thread():
    """A recorder sees its own thread."""
    with torch_threads(1):
        yield


def built(name: str, device: torch.device = CPU) -> Any:
    agent_name, inner, outer = RULES[name]
    config = preset(f"point-goal-{agent_name}")
    assert isinstance(config, Config)
    settings = replace(
        config.agent,
        policy=PolicyConfig((8,), "tanh"),
        normalisation=NormalisationConfig(True, True),
        inner=inner,
        **({"outer": outer} if outer else {}),
    )
    spec = PointGoal("point-goal", "", STEPS).spec
    return catalogue.build(spec, settings, np.random.default_rng(0), device)


def rounds_of(agent: Any, seed: int) -> list[Trajectories]:
    distribution = PointGoal("point-goal", "", STEPS)
    tasks = distribution.sample(TASKS, np.random.default_rng(seed))
    env = distribution.open(TASKS, EPISODES, Workers())
    asked = (agent, env, agent.spec, tasks, EPISODES, 1, (seed,), agent.device)
    return adaptation_rounds(*asked)[1]


def minibatch(name: str, agent: Any, seed: int, steps: int = 1) -> Function:
    """Returns a minibatch's step and its arguments, `steps` steps into an update."""
    first, second = rounds_of(agent, seed)
    rows = torch.randperm(10, generator=torch.Generator().manual_seed(seed)).to(agent.device)
    if RULES[name][0] == "rl2":
        objective = agent.trial_steps(agent.adapt(agent.begin(), first), second)
        outer, state = agent.outer, agent.outer_state
        stats = outer.returns_stats(objective, state.returns)
        lessons, _ = outer.lessons(agent.meta, objective, stats)
        at, rest = (
            Descent.start(agent.meta, state.adam),
            (lessons, rows, outer.weighing(state.adam, 2)),
        )
        for _ in range(steps):
            at = outer.descend(at, *rest)
        return outer.descend, (at, *rest)
    start = agent.inner.start(agent.meta)
    samples = agent.inner.samples(agent.meta, second)
    apart = agent.inner.config.target_kl > 0
    ppo = start.of_tasks(TASKS, apart)
    at = (ppo.params, ppo.moments, torch.ones(TASKS, dtype=torch.bool, device=agent.device))
    for _ in range(steps):
        at = agent.inner.descend(*at, samples, rows)[:3]
    return agent.inner.descend, (*at, samples, rows)


def step_of_memory(name: str, agent: Any, seed: int, steps: int = 1) -> Function:
    """Returns the step of a recurrent policy and its arguments."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(agent.device)

    like = agent.meta["value.bias"]
    memory = agent.policy.empty_memory(TASKS, EPISODES, like=like)
    memory = tuple(normal(*x.shape) for x in memory)
    obs = normal(TASKS, EPISODES, agent.spec.obs_dim)
    before = normal(TASKS, EPISODES, agent.policy.before_dim)
    noise = normal(TASKS, EPISODES, agent.policy.head.noise_dim)
    return agent.acted, (agent.meta, obs, before, memory, noise)


FUNCTIONS = [(minibatch, name) for name in RULES]
FUNCTIONS += [(step_of_memory, "gru"), (step_of_memory, "lstm")]
functions = pytest.mark.parametrize(
    ("function_of", "name"), FUNCTIONS, ids=[f"{f.__name__} of {name}" for f, name in FUNCTIONS]
)


@functions
def test_other_data_takes_the_same_operations(function_of: Any, name: str):
    agent = built(name)
    (function, args), (_, others) = (function_of(name, agent, seed) for seed in (0, 50))
    flat, other = Flat.of(args), Flat.of(others)
    assert flat.key() == other.key()

    def call(*tensors: Tensor) -> list[Tensor]:
        return Flat.of(function(*flat.filled(tensors))).tensors

    with unseen():
        recorded = make_fx(call)(*flat.tensors)
    expected = call(*other.tensors)
    for x, y in zip(recorded(*other.tensors), expected, strict=True):
        torch.testing.assert_close(x, y)
    assert any(not torch.equal(x, y) for x, y in zip(expected, call(*flat.tensors), strict=True))


@pytest.mark.parametrize("name", ["rl2 to a kl", "reptile to a kl"])
def test_an_update_that_may_not_look_ends_alike(name: str):
    """Steps after the KL's end are computed and change nothing, as on a GPU."""
    found = []
    for blind in (nullcontext, unseen):
        agent = built(name)
        for seed in range(2):
            first, second = rounds_of(agent, seed)
            with blind():
                state = agent.adapt(agent.begin(), first)
                metrics = agent.meta_update(state, second, np.random.default_rng(seed))
        assert metrics["epochs"] % 1.0 > 0.0
        found.append((agent.state_dict(), metrics))
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-6)
    for key, x in found[0][0].items():
        assert torch.equal(found[1][0][key], x), key


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@functions
def test_a_graph_gives_what_a_call_gives(
    function_of: Any, name: str, recwarn: pytest.WarningsRecorder
):
    """A call, a recording and its repetition, each on other data."""
    agent = built(name, torch_device("cuda"))
    for seed in (0, 50, 100):
        function, args = function_of(name, agent, seed, steps=2)
        found, expected = function(*args), function.__wrapped__(*args)
        for x, y in zip(Flat.of(found).tensors, Flat.of(expected).tensors, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-5)
    assert not [w for w in recwarn if "without a CUDA graph" in str(w.message)]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@functions
def test_nothing_waits_for_the_gpu(function_of: Any, name: str):
    function, args = function_of(name, built(name, torch_device("cuda")), 0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        function.__wrapped__(*args)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@rules
def test_a_gpu_comes_to_what_a_processor_comes_to(name: str):
    """Whole updates, several of them, so that graphs are recorded and repeated."""
    found = []
    for device in ("cpu", "cuda"):
        agent = built(name, torch_device(device))
        agent.load_state_dict(built(name).state_dict())
        cpu = built(name)
        for seed in range(2):
            rounds = [_on(x, agent.device) for x in rounds_of(cpu, seed)]
            state = agent.adapt(agent.begin(), rounds[0])
            metrics = agent.meta_update(state, rounds[1], np.random.default_rng(seed))
            assert not metrics["skipped"]
        found.append({key: x.cpu() for key, x in agent.state_dict().items()})
    for key, x in found[0].items():
        torch.testing.assert_close(found[1][key], x, rtol=1e-2, atol=1e-3)


def _on(episodes: Trajectories, device: torch.device) -> Trajectories:
    behaviour = type(episodes.behaviour)(*(x.to(device) for x in episodes.behaviour))
    others = {n: x.to(device) for n, x in episodes._asdict().items() if n != "behaviour"}
    return Trajectories(behaviour=behaviour, **others)
