"""MAML-TRPO as an agent: what changes it and what does not, its line search, its batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from metarl.agents.batch import learning_batch
from metarl.agents.gradient_agent import GradientAgent
from metarl.agents.outer.trpo import Trpo
from metarl.config import AdvantageConfig, AgentConfig, PolicyConfig, SgdConfig, TrpoConfig
from metarl.equations.baseline import fitted_values
from metarl.equations.distributions import each
from metarl.equations.vectors import ravel
from metarl.types import EnvSpec, Trajectories

TASKS, STEPS, EPISODES, OBS = 4, 12, 5, 3
CPU = torch.device("cpu")


def agent_on(kind: str, steps: int = 1, **outer) -> GradientAgent:
    space = Box(-1, 1, (2,)) if kind == "box" else Discrete(3)
    spec = EnvSpec("problem", Box(-1, 1, (OBS,)), space, STEPS)
    config = AgentConfig(
        policy=PolicyConfig(hidden=(8,)),
        inner=SgdConfig(lr=0.5, steps=steps),
        outer=TrpoConfig(query_fraction=1.0, **outer),
    )
    return GradientAgent(spec, config, np.random.default_rng(0), CPU)


def played(agent: GradientAgent, state, seed: int) -> Trajectories:
    """Episodes of a task-dependent reward under the state's policy, some cut short."""
    g = torch.Generator().manual_seed(seed)
    shape = (TASKS, STEPS, EPISODES)
    obs = torch.randn(*shape, OBS, generator=g)
    noise = torch.randn(*shape, agent.noise[1], generator=g)
    actions, behaviour = agent.act(state, obs.flatten(1, 2), noise.flatten(1, 2))
    actions = actions.unflatten(1, (STEPS, EPISODES))
    goals = torch.linspace(-1, 1, TASKS).view(TASKS, 1, 1)
    rewards = -(actions[..., 0].float() - goals).abs()
    lengths = torch.randint(4, STEPS + 1, (TASKS, 1, EPISODES), generator=g)
    time = torch.arange(STEPS).view(1, STEPS, 1)
    mask, last = time < lengths, time == lengths - 1
    nothing = torch.zeros(TASKS, EPISODES, dtype=torch.int32)
    full = lengths == STEPS
    return Trajectories(
        obs,
        actions,
        rewards * mask,
        last & ~full,
        last & full,
        mask,
        obs[:, -1],
        nothing,
        behaviour,
    )


def update(agent: GradientAgent, seed: int = 0):
    state = agent.begin()
    for index in range(agent.config.inner.steps):
        state = agent.adapt(state, played(agent, state, seed + index))
    return agent.meta_update(state, played(agent, state, seed + 99), np.random.default_rng(0))


kinds = pytest.mark.parametrize("kind", ["box", "discrete"])


@kinds
@pytest.mark.parametrize("steps", [1, 2])
def test_only_meta_update_changes_the_agent(kind, steps):
    agent = agent_on(kind, steps)
    before = {name: x.clone() for name, x in agent.state_dict().items()}
    state = agent.begin()
    support = played(agent, state, 0)
    adapted = agent.adapt(state, support)
    again = agent.adapt(agent.begin(), support)
    assert all(torch.equal(before[n], x) for n, x in agent.state_dict().items())
    assert all(torch.equal(adapted.params[n], again.params[n]) for n in before)
    assert all(adapted.params[n].shape == (TASKS, *before[n].shape) for n in before)
    metrics = update(agent)
    assert metrics["line_search/accepted"] == 1.0
    assert not all(torch.equal(before[n], x) for n, x in agent.state_dict().items())


@kinds
def test_an_update_gains_within_the_trust_region(kind):
    """The surrogate rises, the mean KL is within its bound and near it."""
    metrics = update(agent_on(kind))
    assert metrics["surrogate/after"] > metrics["surrogate/before"]
    assert 0.002 < metrics["kl"] <= 0.01


@kinds
def test_adaptation_raises_the_return_of_each_task(kind):
    """Gradient steps on the task's own reward, from the same meta-parameters."""
    agent = agent_on(kind)
    state = agent.begin()
    before = played(agent, state, 5).rewards.sum((1, 2))
    for index in range(4):
        state = agent.adapt(state, played(agent, state, index))
    after = played(agent, state, 5).rewards.sum((1, 2))
    assert (after > before).all()


def test_a_failed_line_search_keeps_the_old_parameters():
    """A direction that only hurts is refused at every length, said so, and undone."""
    agent = agent_on("box", backtracks=4)

    class Downhill(Trpo):
        def direction(self, objective):
            direction, metrics = super().direction(objective)
            return -100.0 * direction, metrics

    agent.outer = Downhill(agent.config.outer)
    before = {name: x.clone() for name, x in agent.state_dict().items()}
    metrics = update(agent)
    assert metrics["line_search/accepted"] == 0.0
    assert metrics["line_search/backtracks"] == 4.0
    assert metrics["kl"] == 0.0
    assert metrics["surrogate/after"] == metrics["surrogate/before"]
    assert all(torch.equal(before[n], x) for n, x in agent.state_dict().items())


def test_a_non_finite_step_is_refused():
    agent = agent_on("box", backtracks=3)

    class Broken(Trpo):
        def direction(self, objective):
            direction, metrics = super().direction(objective)
            return direction * float("nan"), metrics

    agent.outer = Broken(agent.config.outer)
    assert update(agent)["line_search/accepted"] == 0.0
    assert all(torch.isfinite(x).all() for x in agent.state_dict().values())


def test_state_round_trips_and_foreign_weights_are_refused():
    agent, other = agent_on("box"), agent_on("box")
    update(agent)
    other.load_state_dict(agent.state_dict())
    assert all(torch.equal(agent.meta[n], other.meta[n]) for n in agent.meta)
    with pytest.raises(ValueError, match="not this agent's"):
        agent_on("discrete").load_state_dict(agent.state_dict())


def test_thinned_query_points_the_same_way():
    """A product on half the query and bfloat16 Hessians stay near the exact direction."""
    exact, thin = agent_on("box"), agent_on("box")
    thin.config = replace(
        thin.config,
        outer=replace(thin.config.outer, query_fraction=0.5, product_dtype="bfloat16"),
    )
    state = exact.begin()
    state = exact.adapt(state, played(exact, state, 0))
    query = played(exact, state, 1)
    found = []
    for agent in (exact, thin):
        objective = agent.objective(state, query, np.random.default_rng(0))
        found.append(agent.outer.direction(objective)[0])
    assert float(torch.cosine_similarity(*found, dim=0)) > 0.8


def test_damping_holds_the_direction_to_the_gradient():
    """With overwhelming damping the natural gradient is the gradient."""
    agent = agent_on("box", damping=1e6)
    state = agent.begin()
    state = agent.adapt(state, played(agent, state, 0))
    objective = agent.objective(state, played(agent, state, 1), np.random.default_rng(0))
    direction, gradient = agent.outer.direction(objective)[0], ravel(objective.gradient)
    assert float(torch.cosine_similarity(direction, gradient, dim=0)) > 0.9999


def test_a_thinned_batch_is_a_batch():
    """Valid samples of the task itself, weights that sum to one."""
    agent = agent_on("box")
    batch = learning_batch(played(agent, agent.begin(), 0), AdvantageConfig())
    thin = batch.thinned(0.3, np.random.default_rng(0))
    assert thin.obs.shape == (TASKS, 18, OBS)
    torch.testing.assert_close(thin.weights.sum(1), torch.ones(TASKS))
    assert (thin.weights > 0).all()
    for k in range(TASKS):
        found = (thin.obs[k][:, None] == batch.obs[k][None]).all(-1)
        assert (found.sum(1) == 1).all()
        rows = found.float().argmax(1)
        assert torch.equal(thin.advantages[k], batch.advantages[k][rows])
        assert torch.equal(thin.actions[k], batch.actions[k][rows])


@pytest.mark.parametrize("gae_lambda", [1.0, 0.9])
def test_advantages_are_those_of_a_loop_over_episodes(gae_lambda):
    """deltas with the baseline's next value, zero beyond the end; standardised in each task."""
    agent = agent_on("box")
    data = played(agent, agent.begin(), 0)
    config = AdvantageConfig(discount=0.9, gae_lambda=gae_lambda)
    batch = learning_batch(data, config)
    for k in range(TASKS):
        returns, advantages = torch.zeros(STEPS, EPISODES), torch.zeros(STEPS, EPISODES)
        lengths = data.mask[k].sum(0).tolist()
        for e, length in enumerate(lengths):
            for t in reversed(range(length)):
                later = returns[t + 1, e] if t + 1 < length else 0.0
                returns[t, e] = data.rewards[k, t, e] + 0.9 * later
        values = fitted_values(data.obs[k], returns, data.mask[k], config.baseline_ridge)
        for e, length in enumerate(lengths):
            for t in reversed(range(length)):
                inside = t + 1 < length
                delta = data.rewards[k, t, e] - values[t, e]
                delta = delta + (0.9 * values[t + 1, e] if inside else 0.0)
                rest = advantages[t + 1, e] if inside else 0.0
                advantages[t, e] = delta + 0.9 * gae_lambda * rest
        valid = advantages[data.mask[k]]
        expected = (valid - valid.mean()) / valid.std(correction=0)
        found = batch.advantages[k].unflatten(0, (STEPS, EPISODES))[data.mask[k]]
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_padding_never_reaches_the_learning_batch():
    """Observations and rewards after an episode's end change neither advantages nor weights."""
    agent = agent_on("box")
    clean = played(agent, agent.begin(), 0)
    noise = torch.randn(clean.obs.shape, generator=torch.Generator().manual_seed(9))
    dirty = clean._replace(
        obs=torch.where(clean.mask[..., None], clean.obs, 5 * noise),
        rewards=torch.where(clean.mask, clean.rewards, 1000.0),
    )
    a, b = (learning_batch(x, AdvantageConfig()) for x in (clean, dirty))
    torch.testing.assert_close(a.advantages, b.advantages)
    assert torch.equal(a.weights, b.weights)
    assert a.weights.sum(1).tolist() == pytest.approx([1.0] * TASKS)
    assert (a.weights.unflatten(1, (STEPS, EPISODES)) > 0).equal(clean.mask)


def test_extra_steps_at_evaluation_are_shorter():
    """Trained for one step of 0.5; the published evaluation halves those after it."""
    assert [agent_on("box").inner.lr(index) for index in range(3)] == [0.5, 0.25, 0.25]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_update():
    """The same episodes, adapted and learned from on either device, to single precision."""
    cpu = agent_on("box")
    gpu = GradientAgent(
        EnvSpec("problem", Box(-1, 1, (OBS,)), Box(-1, 1, (2,)), STEPS),
        cpu.config,
        np.random.default_rng(0),
        torch.device("cuda"),
    )
    support = played(cpu, cpu.begin(), 0)
    state = cpu.adapt(cpu.begin(), support)
    query = played(cpu, state, 1)
    moved = [
        t._replace(
            behaviour=each(Tensor.cuda, t.behaviour),
            **{n: x.cuda() for n, x in t._asdict().items() if isinstance(x, Tensor)},
        )
        for t in (support, query)
    ]
    cpu.meta_update(state, query, np.random.default_rng(0))
    gpu.meta_update(gpu.adapt(gpu.begin(), moved[0]), moved[1], np.random.default_rng(0))
    for name, x in cpu.meta.items():
        torch.testing.assert_close(gpu.meta[name].cpu(), x, atol=1e-3, rtol=1e-2)
