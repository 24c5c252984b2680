"""Reptile: its outer rule on quadratics, its direction, and the agent around the inner PPO."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from metarl.agents import catalogue
from metarl.agents.inner.ppo import PpoStepsConfig
from metarl.agents.outer.reptile import Reptile, ReptileConfig
from metarl.agents.reptile import Adapted, ReptilePpo
from metarl.config.settings import AdvantageConfig, AgentConfig, NormalisationConfig, PolicyConfig
from metarl.equations.adam import AdamState, adam_start
from metarl.equations.losses import score_function_loss
from metarl.errors import UserError
from metarl.types import EnvSpec, Params, Trajectories

TASKS, STEPS, EPISODES, OBS = 4, 12, 5, 3
CPU = torch.device("cpu")
SPACES = {"box": Box(-1, 1, (2,)), "discrete": Discrete(3), "multidiscrete": MultiDiscrete([3, 2])}
kinds = pytest.mark.parametrize("kind", list(SPACES))


def agent_on(kind: str, outer: ReptileConfig | None = None, seed: int = 0, **inner) -> ReptilePpo:
    spec = EnvSpec("problem", Box(-1, 1, (OBS,)), SPACES[kind], STEPS)
    config = AgentConfig(
        name="reptile-ppo",
        policy=PolicyConfig(hidden=(8,)),
        inner=PpoStepsConfig(**{"lr": 0.02, **inner}),
        outer=outer or ReptileConfig(),
        advantages=AdvantageConfig(discount=0.9, gae_lambda=0.8),
        normalisation=NormalisationConfig(observations=True, rewards=True),
    )
    agent = catalogue.build(spec, config, np.random.default_rng(seed), CPU)
    assert isinstance(agent, ReptilePpo)
    return agent


def played(agent: ReptilePpo, state, seed: int, episodes: int = EPISODES) -> Trajectories:
    """Episodes of a task-dependent reward under the state's policy, some cut short."""
    g = torch.Generator().manual_seed(seed)
    shape = (TASKS, STEPS, episodes)
    obs = torch.randn(*shape, OBS, generator=g)
    noise = torch.randn(*shape, agent.noise[1], generator=g)
    actions, _ = agent.act(state, obs.flatten(1, 2), noise.flatten(1, 2))
    actions = actions.unflatten(1, (STEPS, episodes))
    behaviour = agent.policy(state.ppo.params, agent.normaliser.obs(obs))
    goals = torch.linspace(-1, 1, TASKS).view(TASKS, 1, 1)
    rewards = -(actions[..., 0].float() - goals).abs()
    lengths = torch.randint(4, STEPS + 1, (TASKS, 1, episodes), generator=g)
    time = torch.arange(STEPS).view(1, STEPS, 1)
    mask, last = time < lengths, time == lengths - 1
    full = lengths == STEPS
    nothing = torch.zeros(TASKS, episodes, dtype=torch.int32)
    ends = (last & ~full, last & full, mask)
    return Trajectories(obs, actions, rewards * mask, *ends, obs[:, -1], nothing, behaviour)


def update(agent: ReptilePpo, seed: int = 0):
    state = agent.begin()
    for index in range(agent.steps):
        state = agent.adapt(state, played(agent, state, seed + index))
    return agent.meta_update(state, played(agent, state, seed + 99), np.random.default_rng(0))


def copied(agent: ReptilePpo) -> Params:
    return {name: x.clone() for name, x in agent.state_dict().items()}


def descended(meta: Params, centres: torch.Tensor, lr: float, steps: int) -> Params:
    """After plain gradient steps on |x - c_i|^2 / 2 for each task: [K, ...]."""
    x = meta["x"].expand_as(centres)
    for _ in range(steps):
        x = x - lr * (x - centres)
    return {"x": x}


def stepped(
    meta: Params, adapted: Params, moments: AdamState, config: ReptileConfig
) -> tuple[Params, AdamState]:
    """After an outer step towards where the tasks led."""
    rng = np.random.default_rng(0)
    after, moments, metrics = Reptile(config).step(meta, moments, Adapted(adapted), rng)
    assert metrics["skipped"] == 0.0
    return after, moments


CENTRES = torch.tensor([[1.0, 0.0], [4.0, 2.0], [-2.0, 7.0]], dtype=torch.float64)


def test_on_quadratics_it_closes_in_on_the_mean_centre_at_the_known_rate():
    """Inner steps take x - c_i to (1 - lr)^n of it, so an outer step takes theta - mean c_i to
    1 - beta (1 - (1 - lr)^n) of it."""
    meta: Params = {"x": torch.tensor([5.0, -3.0], dtype=torch.float64)}
    moments, config = adam_start(meta), ReptileConfig(lr=0.4)
    start, rate = meta["x"] - CENTRES.mean(0), 1 - 0.4 * (1 - 0.9**3)
    for t in range(1, 40):
        meta, moments = stepped(meta, descended(meta, CENTRES, 0.1, 3), moments, config)
        torch.testing.assert_close(meta["x"] - CENTRES.mean(0), rate**t * start)


def test_serially_the_last_tasks_weigh_most():
    """theta (1-b)^3 + b (1-b)^2 phi_1 + b (1-b) phi_2 + b phi_3; with b = 1 the last one alone."""
    meta: Params = {"x": torch.tensor([5.0, -3.0], dtype=torch.float64)}
    adapted: Params = {"x": CENTRES}
    for b in (0.3, 1.0):
        config = ReptileConfig(lr=b, serial=True)
        found, _ = stepped(meta, adapted, adam_start(meta), config)
        weights = b * torch.tensor([(1 - b) ** 2, 1 - b, 1.0], dtype=torch.float64)
        torch.testing.assert_close(found["x"], (1 - b) ** 3 * meta["x"] + weights @ CENTRES)


@pytest.mark.parametrize("serial", [False, True])
def test_adam_outside_comes_to_the_centres_too(serial):
    """Its first step has the length `lr` along each coordinate, and its steps are remembered."""
    meta: Params = {"x": torch.tensor([5.0, -3.0], dtype=torch.float64)}
    config = ReptileConfig(lr=0.05, optimizer="adam", serial=serial)
    adapted = descended(meta, CENTRES, 0.1, 3)
    first, moments = stepped(meta, adapted, adam_start(meta), config)
    assert float(moments.count) == (3 if serial else 1)
    if not serial:
        torch.testing.assert_close(first["x"] - meta["x"], torch.tensor([-0.05, 0.05]).double())
    moments = adam_start(meta)
    for _ in range(400):
        meta, moments = stepped(meta, descended(meta, CENTRES, 0.1, 3), moments, config)
    torch.testing.assert_close(meta["x"], CENTRES.mean(0), atol=0.2, rtol=0)


@kinds
def test_one_sgd_step_leads_along_the_joint_gradient(kind):
    """theta moves by -beta lr times the gradient of all tasks' mean loss: the policy gradient's,
    for before its first step PPO's ratio is one, and the value function's."""
    settings = {"optimizer": "sgd", "epochs": 1, "minibatches": 1, "max_grad_norm": 1e9}
    agent = agent_on(kind, ReptileConfig(lr=0.5), steps=0, entropy=0.1, **settings)
    meta = {name: x.clone().requires_grad_() for name, x in agent.meta.items()}
    query = played(agent, agent.begin(), 3)
    normal = agent.unit(agent.normaliser.statistics(query)).trajectories(query)
    samples = agent.inner.samples(agent.meta, normal)
    policy, values = agent.policy(meta, samples.obs), agent.value(meta, samples.obs)
    losses = score_function_loss(policy, samples.actions, samples.advantages, samples.weights)
    for k in range(TASKS):
        valid = samples.weights[k] > 0
        mse = F.mse_loss(values[k, valid], samples.targets[k, valid])
        losses[k] = (
            losses[k] + 0.5 * mse - 0.1 * policy.entropy().expand_as(values)[k, valid].mean()
        )
    gradient = torch.autograd.grad(losses.mean(), list(meta.values()))
    metrics = agent.meta_update(agent.begin(), query, np.random.default_rng(0))
    for (name, x), expected in zip(meta.items(), gradient, strict=True):
        moved = (agent.meta[name] - x.detach()) / -(0.5 * 0.02)
        torch.testing.assert_close(moved, expected, atol=1e-4, rtol=1e-3)
    norm = float(torch.stack([x.square().sum() for x in gradient]).sum().sqrt())
    assert metrics["reptile/distance"] == pytest.approx(0.02 * norm, rel=1e-3)


@kinds
@pytest.mark.parametrize("steps", [0, 2])
def test_only_meta_update_changes_the_agent(kind, steps):
    """An update steps to the mean of the tasks' parameters after the last round, the query."""
    agent = agent_on(kind, ReptileConfig(lr=0.25), steps=steps)
    update(agent)  # so that observations and rewards are normalised
    before = copied(agent)
    state = agent.begin()
    for index in range(steps):
        support = played(agent, state, index)
        again = agent.adapt(state, support)
        state = agent.adapt(state, support)
        for name, x in state.ppo.params.items():
            assert torch.equal(x, again.ppo.params[name])
            assert x.shape == (TASKS, *before[name].shape)
    query = played(agent, state, 99)
    last = agent.adapt(state, query)
    assert last.ppo.rounds == steps + 1
    assert all(torch.equal(before[name], x) for name, x in agent.state_dict().items())
    metrics = agent.meta_update(state, query, np.random.default_rng(0))
    assert metrics["skipped"] == metrics["reptile/left_out"] == 0.0
    for name, x in agent.meta.items():
        goal = last.ppo.params[name].mean(0)
        torch.testing.assert_close(x, before[name] + 0.25 * (goal - before[name]))
        assert not torch.equal(x, before[name])


@kinds
def test_adaptation_raises_the_return_of_each_task(kind):
    agent = agent_on(kind, epochs=10)
    state = agent.begin()
    before = played(agent, state, 5).rewards.sum((1, 2))
    for index in range(4):
        state = agent.adapt(state, played(agent, state, index, episodes=40))
    after = played(agent, state, 5).rewards.sum((1, 2))
    assert (after > before).all()


def test_training_raises_the_return_before_adaptation():
    """Towards what is best for all tasks; -0.67 a step is the most that one action can have."""
    agent = agent_on("box", ReptileConfig(lr=0.5), epochs=10)
    before = played(agent, agent.begin(), 5).rewards.mean()
    for seed in range(8):
        update(agent, 10 * seed)
    assert played(agent, agent.begin(), 5).rewards.mean() > before + 0.1


@kinds
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_resumed_run_is_bit_equal(kind, optimizer, tmp_path):
    """Weights, the outer Adam's moments and the statistics go through a file."""
    outer = ReptileConfig(lr=0.1, optimizer=optimizer)
    whole, resumed = agent_on(kind, outer), agent_on(kind, outer, seed=1)
    update(whole)
    safetensors.torch.save_file(whole.state_dict(), tmp_path / "agent.safetensors")
    resumed.load_state_dict(safetensors.torch.load_file(tmp_path / "agent.safetensors"))
    for agent in (whole, resumed):
        update(agent, 7)
    expected = whole.state_dict()
    assert ("outer.count" in expected) == (optimizer == "adam")
    assert expected.keys() == resumed.state_dict().keys()
    assert all(torch.equal(expected[name], x) for name, x in resumed.state_dict().items())


def test_foreign_weights_are_refused():
    agent = agent_on("box")
    with pytest.raises(ValueError, match="not this agent's"):
        agent.load_state_dict(agent_on("discrete").state_dict())
    raw = {n: x for n, x in agent.state_dict().items() if not n.startswith("normalisation")}
    with pytest.raises(ValueError, match=r"agent\.normalisation"):
        agent.load_state_dict(raw)


def test_tasks_that_fail_are_left_out_and_where_all_do_nothing_moves():
    """Rewards beyond single precision make a task's loss infinite."""
    agent = agent_on("box", ReptileConfig(lr=0.25), steps=1)
    agent.config = replace(agent.config, normalisation=NormalisationConfig())
    agent.normaliser = agent.normaliser._replace(config=NormalisationConfig(), stats={})

    def too_much(episodes: Trajectories, *tasks: int) -> Trajectories:
        rewards = episodes.rewards.clone()
        rewards[list(tasks)] = 1e30
        return episodes._replace(rewards=rewards)

    before = copied(agent)
    state = agent.begin()
    state = agent.adapt(state, too_much(played(agent, state, 0), 0))
    query = too_much(played(agent, state, 1), 3)
    last = agent.adapt(state, query)
    assert last.finite.tolist() == [False, True, True, False]
    metrics = agent.meta_update(state, query, np.random.default_rng(0))
    assert (metrics["skipped"], metrics["reptile/left_out"]) == (0.0, 2.0)
    assert np.isfinite(list(metrics.values())).all()
    for name, x in agent.meta.items():
        goal = last.ppo.params[name][1:3].mean(0)
        torch.testing.assert_close(x, before[name] + 0.25 * (goal - before[name]))

    before = copied(agent)
    state = agent.begin()
    state = agent.adapt(state, too_much(played(agent, state, 0), 0, 1, 2, 3))
    metrics = agent.meta_update(state, played(agent, state, 1), np.random.default_rng(0))
    assert (metrics["skipped"], metrics["reptile/left_out"]) == (1.0, 4.0)
    assert all(torch.equal(before[name], x) for name, x in agent.state_dict().items())


def test_metrics_are_of_the_last_round():
    """KL from who collected the query to who learned from it, by the distributions themselves."""
    agent = agent_on("box", steps=1, epochs=2)
    update(agent)
    state = agent.begin()
    state = agent.adapt(state, played(agent, state, 0))
    query = played(agent, state, 1)
    after = agent.adapt(state, query)
    kls = []
    for k in range(TASKS):
        obs = agent.normaliser.obs(query.obs[k])[query.mask[k]]
        found = []
        for params in (state.ppo.params, after.ppo.params):
            mean, log_std = agent.policy({name: x[k] for name, x in params.items()}, obs)
            found.append(torch.distributions.Normal(mean, log_std.exp()))
        kls.append(torch.distributions.kl_divergence(*found).sum(-1).mean())
    metrics = agent.meta_update(state, query, np.random.default_rng(0))
    assert metrics["kl"] == pytest.approx(float(torch.stack(kls).mean()), rel=1e-4)
    assert metrics["kl"] > 1e-4
    assert metrics["value/loss"] > 0.0
    assert metrics["value/explained_variance"] < 1.0


def test_epochs_are_a_metric_where_a_target_may_end_them():
    agent = agent_on("box", steps=1, epochs=6, target_kl=1e-3)
    assert 0.0 < update(agent)["epochs"] < 6.0
    assert "epochs" not in update(agent_on("box", steps=1, epochs=6))


def test_rewards_have_a_unit_from_the_first_round_on():
    """The first round sets the unit: a thousand times the rewards are learned from alike, in both
    rounds. Later the unit is that of all iterations before."""
    states = []
    for scale in (1.0, 1000.0):
        agent = agent_on("box", steps=1)
        state = agent.begin()
        for seed in range(2):
            episodes = played(agent, state, seed)
            grown = episodes._replace(rewards=(1 + 4 * seed) * scale * episodes.rewards)
            state, samples, _ = agent.learn(state, grown)
        states.append((state, samples))
    (small, samples), (large, more) = states
    torch.testing.assert_close(samples.targets, more.targets, rtol=1e-3, atol=1e-3)
    assert samples.targets.std() > 2.0  # five times the unit
    for name, x in small.ppo.params.items():
        torch.testing.assert_close(large.ppo.params[name], x, rtol=1e-3, atol=1e-4)
    update(agent)
    seen = agent.normaliser.stats["returns"]
    assert agent.unit(small.stats[0]).stats["returns"] is seen
    assert seen.count > 0


@pytest.mark.parametrize(
    ("outer", "said"),
    [
        (ReptileConfig(lr=1.0, optimizer="adam"), "agent.outer.lr is 1, and with Adam"),
        (ReptileConfig(lr=1.0, serial=True), "agent.outer.serial with agent.outer.lr 1"),
    ],
)
def test_outer_steps_that_lose_what_was_learned_are_refused(outer, said):
    with pytest.raises(UserError, match=said) as caught:
        agent_on("box", outer)
    assert len(str(caught.value).splitlines()) == 2


def test_a_kept_deviation_is_the_initial_one_whatever_tasks_learn():
    kept = agent_on("box", ReptileConfig(lr=0.5, keep_std=True))
    free = agent_on("box", ReptileConfig(lr=0.5))
    start = kept.meta["log_std"].clone()
    for agent in (kept, free):
        assert update(agent)["skipped"] == 0.0
    assert torch.equal(kept.meta["log_std"], start)
    assert not torch.equal(free.meta["log_std"], start)
    others = [name for name in kept.meta if name != "log_std"]
    assert all(torch.equal(kept.meta[name], free.meta[name]) for name in others)


def test_settings_of_reptile_that_would_do_nothing_are_refused():
    with pytest.raises(UserError, match="have no deviation"):
        agent_on("discrete", ReptileConfig(keep_std=True))
    with pytest.raises(UserError, match="linear baseline is fit"):
        agent_on("box", baseline="linear", value_weight=0.3)
    spec = EnvSpec("problem", Box(-1, 1, (OBS,)), SPACES["box"], STEPS)
    config = AgentConfig(
        name="reptile-ppo",
        policy=PolicyConfig(hidden=(8,), std="state"),
        inner=PpoStepsConfig(),
        outer=ReptileConfig(keep_std=True),
    )
    with pytest.raises(UserError, match="output of the network"):
        catalogue.build(spec, config, np.random.default_rng(0), CPU)
