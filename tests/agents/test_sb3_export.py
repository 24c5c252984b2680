"""Adapted policies exported to Stable-Baselines3: the same actions, and its PPO learns on."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from stable_baselines3 import PPO

from metarl.agents.catalogue import build, default
from metarl.agents.policy_gradient import TaskState
from metarl.agents.sb3_export import export
from metarl.config.settings import NormalisationConfig
from metarl.equations.running_stats import RunningStats
from metarl.errors import UserError
from metarl.networks.mlp import select_tasks
from metarl.types import EnvSpec

K, OBS = 3, 4
SPACES = {"box": Box(-1, 1, (2,)), "discrete": Discrete(5), "multidiscrete": MultiDiscrete([5, 3])}
OBSERVED = Box(-np.inf, np.inf, (OBS,), np.float32)
SETTINGS = {"n_steps": 32, "batch_size": 32, "seed": 0}
kinds = pytest.mark.parametrize("kind", list(SPACES))


class Noise(gymnasium.Env):
    """Observations of no meaning; a reward for some actions; episodes of 8 steps."""

    def __init__(self, action_space):
        self.observation_space, self.action_space = OBSERVED, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        return self.observe(), float(np.sum(action)), False, self.steps == 8, {}

    def observe(self):
        return self.np_random.standard_normal(OBS, np.float32)


def agent_on(kind: Any, name: str = "maml-trpo", normalised: bool = False, **policy) -> Any:
    """With statistics as if it had seen much, far from zero mean and unit deviation."""
    space = SPACES[kind] if isinstance(kind, str) else kind
    spec = EnvSpec("noise", OBSERVED, space, 8)
    config = default(name)
    config = replace(
        config,
        policy=replace(config.policy, hidden=(9, 7), **policy),
        normalisation=NormalisationConfig(normalised, normalised, clip=1.5),
    )
    agent: Any = build(spec, config, np.random.default_rng(0), torch.device("cpu"))
    if normalised:

        def seen(*shape: int) -> RunningStats:
            mean, m2 = (torch.rand(shape, dtype=torch.float64) for _ in range(2))
            return RunningStats(torch.tensor(7.0, dtype=torch.float64), 2 * mean - 1, 20 * m2 + 5)

        statistics = {"obs": seen(OBS), "returns": seen()}
        agent.normaliser = agent.normaliser._replace(stats=statistics)
    return agent


def adapted(params):
    """Parameters of K tasks, each its own."""
    g = torch.Generator().manual_seed(1)
    return {
        name: (x + 0.3 * torch.randn(K, *x.shape, generator=g)).requires_grad_()
        for name, x in params.items()
    }


def observations(num: int = 200) -> torch.Tensor:
    return 3 * torch.randn(num, OBS, generator=torch.Generator().manual_seed(2))


def assert_predicts(ppo: PPO, agent, params, task: int):
    """The mode of the task's own distribution, clipped to the box as environments do."""
    obs = observations()
    distribution = agent.policy(select_tasks(params, task), agent.normaliser.obs(obs))
    no_noise = torch.zeros(len(obs), agent.noise[1])
    mode = distribution.sample(no_noise).detach().numpy()
    if isinstance(agent.spec.action_space, Box):
        mode = np.clip(mode, -1, 1)
        assert (np.abs(mode) == 1).any()
        assert (np.abs(mode) < 1).any()
    elif isinstance(agent.spec.action_space, Discrete):
        mode = mode[:, 0]
    found, _ = ppo.predict(obs.numpy(), deterministic=True)
    np.testing.assert_allclose(found, mode, rtol=0, atol=1e-5)
    alone, _ = ppo.predict(obs[3].numpy(), deterministic=True)
    np.testing.assert_allclose(alone, mode[3], rtol=0, atol=1e-5)


@kinds
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("normalised", [False, True])
def test_predict_gives_the_adapted_policys_actions(kind, activation, normalised):
    agent = agent_on(kind, normalised=normalised, activation=activation)
    start = agent.begin()
    moved = TaskState(adapted(start.params), (), ())
    for state, task in ((start, 0), (moved, 0), (moved, 2)):
        ppo = export(agent, state, task, Noise(SPACES[kind]), SETTINGS)
        assert_predicts(ppo, agent, state.params, task)


@kinds
def test_learn_goes_on_from_there(kind):
    agent = agent_on(kind, normalised=True)
    state = TaskState(adapted(agent.begin().params), (), ())
    ppo = export(agent, state, 1, Noise(SPACES[kind]), SETTINGS)
    before = {name: x.clone() for name, x in ppo.policy.state_dict().items()}
    ppo.learn(96)
    assert (ppo.num_timesteps, ppo._n_updates) == (96, 30)
    for name, x in ppo.policy.state_dict().items():
        statistics = name.endswith(("features_extractor.mean", "features_extractor.deviation"))
        assert torch.equal(x, before[name]) == statistics, name


def test_samples_have_the_policys_deviation_and_its_lower_bound():
    agent = agent_on("box", min_std=0.5)
    params = adapted(agent.begin().params)
    params["log_std"] = torch.tensor([[0.0, 0.0], [-3.0, 0.4], [0.0, 0.0]])
    ppo = export(agent, TaskState(params, (), ()), 1, Noise(SPACES["box"]), SETTINGS)
    expected = torch.tensor([math.log(0.5), 0.4])
    torch.testing.assert_close(ppo.policy.log_std.data, expected)


@pytest.mark.parametrize("normalised", [False, True])
def test_a_policy_scaled_to_its_box_acts_the_same_in_units_of_actions(normalised):
    space = Box(np.array([1.5, 2.5], np.float32), np.array([7.5, 6.5], np.float32))
    agent = agent_on(space, normalised=normalised, scale_to_box=True, min_std=0.5)
    params = adapted(agent.begin().params)
    params["log_std"] = torch.tensor([[0.0, 0.0], [-3.0, 0.4], [0.2, 0.0]])
    for task in (1, 2):
        ppo = export(agent, TaskState(params, (), ()), task, Noise(space), SETTINGS)
        obs = observations()
        ours = agent.policy(select_tasks(params, task), agent.normaliser.obs(obs))
        theirs: Any = ppo.policy.get_distribution(obs).distribution
        mode = ours.sample(torch.zeros(len(obs), 2))
        torch.testing.assert_close(theirs.mean, mode, atol=1e-5, rtol=1e-5)
        deviation = torch.tensor([3.0, 2.0]) * ours.log_std.exp()
        torch.testing.assert_close(theirs.stddev, deviation.expand(len(obs), 2))
        found, _ = ppo.predict(obs.numpy(), deterministic=True)
        expected = mode.detach().numpy().clip(space.low, space.high)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_deviation_that_depends_on_the_state_is_refused_by_name():
    agent = agent_on("box", std="state")
    with pytest.raises(
        UserError, match=r"deviation that depends on observations \(agent.policy.std"
    ):
        export(agent, agent.begin(), 0, Noise(SPACES["box"]), SETTINGS)
    discrete = agent_on("discrete")
    export(discrete, discrete.begin(), 0, Noise(SPACES["discrete"]), SETTINGS)


@pytest.mark.parametrize("name", ["cavia-trpo", "anil-trpo", "meta-sgd-trpo", "promp"])
def test_agents_that_move_other_parameters_are_exported_too(name):
    """A context goes into the first bias; what no step moved is shared by all tasks."""
    agent = agent_on("box", name, normalised=True)
    start = agent.begin().params
    moved = {"cavia-trpo": ("context",), "anil-trpo": ("layer2.weight",)}.get(name, tuple(start))
    params = {**start, **adapted({name: start[name] for name in moved})}
    params["layer2.weight"] = 9 * params["layer2.weight"]
    ppo = export(agent, TaskState(params, (), ()), 2, Noise(SPACES["box"]), SETTINGS)
    assert_predicts(ppo, agent, params, 2)


def test_the_value_function_of_reptile_comes_along_in_units_of_raw_rewards():
    agent = agent_on("box", "reptile-ppo", normalised=True)
    state = agent.begin()
    state = state._replace(ppo=state.ppo._replace(params=adapted(state.ppo.params)))
    ppo = export(agent, state, 1, Noise(SPACES["box"]), SETTINGS)
    params, obs = select_tasks(state.ppo.params, 1), observations()
    assert_predicts(ppo, agent, state.ppo.params, 1)
    returns = agent.normaliser.stats["returns"]
    unit = math.sqrt(float(returns.m2 / returns.count))
    expected = unit * agent.value(params, agent.normaliser.obs(obs))
    torch.testing.assert_close(ppo.policy.predict_values(obs)[:, 0], expected)


def test_what_stable_baselines3_saves_it_loads(tmp_path):
    agent = agent_on("box", normalised=True)
    state = TaskState(adapted(agent.begin().params), (), ())
    env = Noise(SPACES["box"])
    export(agent, state, 1, env, SETTINGS).save(tmp_path / "task1")
    assert_predicts(PPO.load(tmp_path / "task1", env), agent, state.params, 1)


def test_the_discount_is_the_agents_and_settings_are_ppos():
    agent, env = agent_on("box"), Noise(SPACES["box"])
    ppo = export(agent, agent.begin(), 0, env, SETTINGS)
    assert (ppo.gamma, ppo.n_steps) == (0.99, 32)
    assert export(agent, agent.begin(), 0, env, {**SETTINGS, "gamma": 0.5}).gamma == 0.5


def test_other_spaces_and_other_policies_are_refused_in_two_lines():
    agent = agent_on("box")
    with pytest.raises(UserError, match="with 4 observations and actions in Box") as refused:
        export(agent, agent.begin(), 0, Noise(SPACES["discrete"]))
    assert str(refused.value).count("\n") == 1
    for name in ("sb3-ppo", "rl2"):
        other: Any = build(agent.spec, default(name), np.random.default_rng(0), torch.device("cpu"))
        with pytest.raises(UserError, match=f"{name} has adapted no MLP policy") as refused:
            export(other, other.begin(), 0, Noise(SPACES["box"]))
        assert str(refused.value).count("\n") == 1
