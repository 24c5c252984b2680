"""MAML-TRPO and its kin as agents: what changes them, what does not, line search, batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from metarl.agents import batch as batches
from metarl.agents import catalogue
from metarl.agents.batch import learning_batch
from metarl.agents.derivatives.by_hand import LinearisedObjective
from metarl.agents.inner.sgd import SgdConfig
from metarl.agents.outer.trpo import Direction, Trpo, TrpoConfig
from metarl.agents.policy_gradient import PolicyGradientAgent
from metarl.config.settings import AdvantageConfig, NormalisationConfig
from metarl.equations.distributions import each
from metarl.equations.returns import fitted_values
from metarl.equations.trust_region import ravel
from metarl.errors import UserError
from metarl.networks.mlp import select_tasks
from metarl.types import EnvSpec, Trajectories

TASKS, STEPS, EPISODES, OBS = 4, 12, 5, 3
CPU = torch.device("cpu")
NAMES = ("maml-trpo", "fomaml-trpo", "anil-trpo", "meta-sgd-trpo", "cavia-trpo", "joint-trpo")
SPACES = {"box": Box(-1, 1, (2,)), "discrete": Discrete(3)}


def agent_on(
    kind: str, steps: int | None = None, name: str = "maml-trpo", device=CPU, **outer: Any
) -> PolicyGradientAgent:
    """The catalogue's agent, with a small policy and steps for small problems, 5 times its own."""
    entry = catalogue.default(name)
    assert isinstance(entry.inner, SgdConfig)
    config = replace(
        entry,
        policy=replace(entry.policy, hidden=(8,)),
        inner=replace(
            entry.inner,
            lr=5 * entry.inner.lr,
            steps=entry.inner.steps if steps is None else steps,
        ),
    )
    if isinstance(entry.outer, TrpoConfig):
        config = replace(config, outer=replace(entry.outer, query_fraction=1.0, **outer))
    spec = EnvSpec("problem", Box(-1, 1, (OBS,)), SPACES[kind], STEPS)
    return PolicyGradientAgent(spec, config, np.random.default_rng(0), device)


def played(agent: PolicyGradientAgent, state, seed: int) -> Trajectories:
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


def trpo_of(agent: PolicyGradientAgent) -> Trpo:
    assert isinstance(agent.outer, Trpo)
    return agent.outer


def linearised(agent: PolicyGradientAgent, state, query: Trajectories) -> LinearisedObjective:
    """Returns the objective of a trust-region step, on the whole query in float32."""
    return agent.objective(state, query).linearised(agent.meta, None, torch.float32)


def direction(agent: PolicyGradientAgent, state, query: Trajectories) -> Direction:
    """Returns the step of the agent's own outer rule."""
    data, outer = agent.objective(state, query), trpo_of(agent)
    thinned = data.thinned(outer.config.query_fraction, np.random.default_rng(0))
    return outer.direction(data, agent.meta, thinned)


def update(agent: PolicyGradientAgent, seed: int = 0):
    state = agent.begin()
    for index in range(agent.steps):
        state = agent.adapt(state, played(agent, state, seed + index))
    return agent.meta_update(state, played(agent, state, seed + 99), np.random.default_rng(0))


kinds = pytest.mark.parametrize("kind", SPACES)
all_names = pytest.mark.parametrize("name", NAMES)


@kinds
@all_names
def test_only_meta_update_changes_the_agent(kind, name):
    agent = agent_on(kind, name=name)
    before = copied(agent)
    state = agent.begin()
    support = played(agent, state, 0)
    adapted = agent.adapt(state, support)
    again = agent.adapt(agent.begin(), support)
    assert same(agent, before)
    assert all(torch.equal(adapted.params[n], again.params[n]) for n in adapted.params)
    metrics = update(agent)
    assert metrics["line_search/accepted"] == 1.0
    assert metrics["skipped"] == 0.0
    after = agent.state_dict()
    assert all(after[n].shape == before[n].shape and not after[n].equal(before[n]) for n in before)


def copied(agent: PolicyGradientAgent) -> dict[str, Tensor]:
    return {name: x.clone() for name, x in agent.state_dict().items()}


def same(agent: PolicyGradientAgent, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(before[name], x) for name, x in agent.state_dict().items())


WEIGHTS = {"layer0.weight", "layer0.bias", "layer1.weight", "layer1.bias", "log_std"}
MOVED = {
    "maml-trpo": WEIGHTS,
    "anil-trpo": {"layer1.weight", "layer1.bias", "log_std"},
    "meta-sgd-trpo": WEIGHTS,
    "cavia-trpo": {"context"},
}


@pytest.mark.parametrize("name", MOVED)
def test_a_step_moves_what_it_is_said_to_and_gives_it_to_each_task(name):
    """All else is the meta-parameters' own. A context is zero before."""
    agent = agent_on("box", name=name)
    start = agent.begin().params
    assert start.keys() - agent.meta.keys() == ({"context"} if name == "cavia-trpo" else set())
    assert not any(x.any() for n, x in start.items() if n == "context")
    state = agent.begin()
    for _ in range(2):
        state = agent.adapt(state, played(agent, state, 0))
        for n, x in state.params.items():
            if n in MOVED[name]:
                assert x.shape == (TASKS, *start[n].shape)
                assert not torch.equal(x[0], x[1])
            else:
                assert torch.equal(x, agent.meta[n])


@all_names
def test_tasks_adapt_alike_in_one_group_or_each_alone(name, monkeypatch):
    """Also where some parameters are theirs and others shared."""
    agent = agent_on("box", name=name)
    found = []
    for size in (batches.CACHE_BYTES, 1):
        monkeypatch.setattr(batches, "CACHE_BYTES", size)
        state = agent.begin()
        for seed in range(2):
            state = agent.adapt(state, played(agent, state, seed))
        found.append(state.params)
    obs = torch.randn(TASKS, 6, OBS, generator=torch.Generator().manual_seed(0))
    together = agent.policy(found[0], obs)
    for n, x in found[0].items():
        torch.testing.assert_close(found[1][n], x)
    for k in range(TASKS):
        alone = agent.policy(select_tasks(found[0], k), obs[k])
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a.expand_as(together[0])[k], b.expand_as(alone[0]))


def test_joint_training_takes_no_inner_step_and_adapts_at_evaluation(monkeypatch):
    """Its objective is the policy's own, all tasks together; its first step is then a whole one."""
    monkeypatch.setattr(batches, "PARTS", 1)
    joint, maml = agent_on("box", name="joint-trpo"), agent_on("box")
    assert joint.steps == 0
    query = played(joint, joint.begin(), 1)
    objective = linearised(joint, joint.begin(), query)
    (old,) = objective.old
    torch.testing.assert_close(old[0], query.behaviour[0])
    adapted = [agent.adapt(agent.begin(), query).params for agent in (joint, maml)]
    torch.testing.assert_close(adapted[0], adapted[1])


@kinds
def test_random_adapts_and_never_learns(kind):
    """But in what units others see, where they are normalised, it sees too."""
    plain = agent_on(kind, name="random")
    config = replace(plain.config, normalisation=NormalisationConfig(observations=True))
    agent = PolicyGradientAgent(plain.spec, config, np.random.default_rng(0), CPU)
    before = {name: x.clone() for name, x in agent.meta.items()}
    assert update(agent) == {"skipped": 0.0}
    assert all(torch.equal(before[name], x) for name, x in agent.meta.items())
    assert agent.normaliser.stats["obs"].count > 0
    state = agent.begin()
    adapted = agent.adapt(state, played(agent, state, 0)).params
    assert not torch.equal(adapted["layer0.weight"][0], agent.meta["layer0.weight"])


@kinds
@all_names
def test_an_update_gains_within_the_trust_region(kind, name):
    """The surrogate rises, the mean KL is within its bound and near it."""
    metrics = update(agent_on(kind, name=name))
    assert metrics["surrogate/after"] > metrics["surrogate/before"]
    assert 0.002 < metrics["kl"] <= 0.01


@kinds
@all_names
def test_adaptation_raises_the_return_of_each_task(kind, name):
    """Gradient steps on the task's own reward, from the same meta-parameters."""
    agent = agent_on(kind, name=name)
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
        def direction(self, objective, meta, thinned):
            found = super().direction(objective, meta, thinned)
            return found._replace(step=-100.0 * found.step)

    agent.outer = Downhill(trpo_of(agent).config)
    before = copied(agent)
    metrics = update(agent)
    assert metrics["line_search/accepted"] == 0.0
    assert metrics["line_search/backtracks"] == 4.0
    assert metrics["kl"] == 0.0
    assert metrics["surrogate/after"] == metrics["surrogate/before"]
    assert metrics["skipped"] == 0.0
    assert same(agent, before)


@pytest.mark.parametrize("what", ["gradient", "direction", "KL"])
def test_what_is_not_finite_skips_the_update(what):
    """An infinite gradient, a direction that is no number, a KL that overflows at every length."""
    agent = agent_on("box", backtracks=3)

    class Broken(Trpo):
        def direction(self, objective, meta, thinned):
            if what == "gradient":
                objective.query.advantages[0, 0] = float("inf")
            found = super().direction(objective, meta, thinned)
            factor = {"gradient": 1.0, "direction": float("nan"), "KL": 1e30}[what]
            return found._replace(step=found.step * factor)

    agent.outer = Broken(trpo_of(agent).config)
    before = copied(agent)
    metrics = update(agent)
    assert metrics["skipped"] == 1.0
    assert metrics["line_search/accepted"] == 0.0
    assert same(agent, before)


def test_a_step_that_is_not_finite_is_no_matter_where_a_shorter_one_gains():
    agent = agent_on("box", backtracks=15, backtrack_ratio=1e-5)

    class Far(Trpo):
        def direction(self, objective, meta, thinned):
            found = super().direction(objective, meta, thinned)
            return found._replace(step=1e30 * found.step)

    agent.outer = Far(trpo_of(agent).config)
    metrics = update(agent)
    assert metrics["line_search/accepted"] == 1.0
    assert metrics["skipped"] == 0.0


@pytest.mark.parametrize("name", ["maml-trpo", "random"])
def test_dice_is_refused_where_derivatives_are_by_hand(name):
    entry = catalogue.default(name)
    config = replace(entry, inner=SgdConfig(estimator="dice"))
    spec = EnvSpec("problem", Box(-1, 1, (OBS,)), SPACES["box"], STEPS)
    with pytest.raises(UserError, match=r"'dice'.*\n.*--agent dice-maml") as caught:
        catalogue.build(spec, config, np.random.default_rng(0), CPU)
    assert len(str(caught.value).splitlines()) == 2


@all_names
def test_state_round_trips_and_foreign_weights_are_refused(name):
    """An agent that loads a state updates as the other would have, to the bit."""
    agent, other = agent_on("box", name=name), agent_on("box", name=name)
    update(agent)
    other.load_state_dict(agent.state_dict())
    assert same(other, copied(agent))
    assert update(agent, 5) == update(other, 5)
    assert same(other, copied(agent))
    with pytest.raises(ValueError, match="not this agent's"):
        agent_on("discrete", name=name).load_state_dict(agent.state_dict())


def test_step_sizes_are_state():
    """Weights of Meta-SGD and those of MAML are not each other's."""
    learned, plain = agent_on("box", name="meta-sgd-trpo"), agent_on("box")
    sizes = {name for name in learned.state_dict() if name.startswith("lr.")}
    assert sizes == {f"lr.{name}" for name in plain.state_dict()}
    for one, other in ((learned, plain), (plain, learned)):
        with pytest.raises(ValueError, match="not this agent's"):
            one.load_state_dict(other.state_dict())


def test_thinned_query_points_the_same_way():
    """A product on half the query and bfloat16 Hessians stay near the exact direction."""
    exact, thin = agent_on("box"), agent_on("box")
    rough = replace(trpo_of(thin).config, query_fraction=0.5, product_dtype="bfloat16")
    thin.outer = Trpo(rough)
    state = exact.begin()
    state = exact.adapt(state, played(exact, state, 0))
    query = played(exact, state, 1)
    found = [direction(agent, state, query).step for agent in (exact, thin)]
    assert float(torch.cosine_similarity(*found, dim=0)) > 0.8


def test_damping_holds_the_direction_to_the_gradient():
    """With overwhelming damping the natural gradient is the gradient."""
    agent = agent_on("box", damping=1e6)
    state = agent.begin()
    state = agent.adapt(state, played(agent, state, 0))
    query = played(agent, state, 1)
    gradient = ravel(linearised(agent, state, query).gradient)
    found = direction(agent, state, query).step
    assert float(torch.cosine_similarity(found, gradient, dim=0)) > 0.9999


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


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@all_names
def test_a_gpu_gives_the_same_update(name):
    """The same episodes, adapted and learned from on either device, to single precision."""
    # `auto` may take half precision on one of them alone
    cpu, gpu = (
        agent_on("box", 1, name, torch.device(device), product_dtype="float32")
        for device in ("cpu", "cuda")
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
