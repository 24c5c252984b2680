"""Running normalisation: what is counted, when it changes, and what it makes no difference to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from gymnasium.spaces import Box

from metarl.agents.derivatives.by_hand import LinearisedObjective, gain_and_kl
from metarl.agents.inner.sgd import SgdConfig
from metarl.agents.outer.trpo import TrpoConfig
from metarl.agents.policy_gradient import PolicyGradientAgent, TaskState
from metarl.config.settings import AgentConfig, Config, NormalisationConfig, PolicyConfig
from metarl.envs.arrays.point_goal import PointEnv, PointGoal
from metarl.errors import UserError
from metarl.experiments.presets import preset
from metarl.loop import training
from metarl.runs import checkpoint
from metarl.sampling.collect import returns_of
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import EnvSpec, Trajectories

TASKS, STEPS, EPISODES, OBS = 4, 12, 5, 3
CPU = torch.device("cpu")
BOTH = NormalisationConfig(observations=True, rewards=True)


def agent_with(normalisation: NormalisationConfig, seed: int = 0) -> PolicyGradientAgent:
    spec = EnvSpec("problem", Box(-1, 1, (OBS,)), Box(-1, 1, (2,)), STEPS)
    config = AgentConfig(
        name="maml-trpo",
        policy=PolicyConfig(hidden=(8,), activation="tanh"),
        inner=SgdConfig(lr=0.5),
        outer=TrpoConfig(query_fraction=1.0, product_dtype="float32"),
        normalisation=normalisation,
    )
    return PolicyGradientAgent(spec, config, np.random.default_rng(seed), CPU)


def played(agent: PolicyGradientAgent, state: TaskState, seed: int, scale=1.0, shift=0.0, unit=1.0):
    """Episodes, some cut short, whose observations and rewards are in other units."""
    g = torch.Generator().manual_seed(seed)
    shape = (TASKS, STEPS, EPISODES)
    obs = torch.randn(*shape, OBS, generator=g)
    noise = torch.randn(*shape, 2, generator=g)
    lengths = torch.randint(4, STEPS + 1, (TASKS, 1, EPISODES), generator=g)
    time = torch.arange(STEPS).view(1, STEPS, 1)
    mask, last = time < lengths, time == lengths - 1
    given = scale * obs + shift
    actions, behaviour = agent.act(state, given.flatten(1, 2), noise.flatten(1, 2))
    actions = actions.unflatten(1, (STEPS, EPISODES))
    goals = torch.linspace(-1, 1, TASKS).view(TASKS, 1, 1)
    rewards = -(actions[..., 0] - goals - obs[..., 0]).abs() * mask
    none = torch.zeros(TASKS, EPISODES, dtype=torch.int32)
    full = lengths == STEPS
    ends = (last & ~full, last & full)
    return Trajectories(given, actions, unit * rewards, *ends, mask, given[:, -1], none, behaviour)


def update(agent: PolicyGradientAgent, seed: int, **units: float) -> list[Trajectories]:
    """One meta-iteration; returns what it was shown."""
    state = agent.begin()
    support = played(agent, state, 2 * seed, **units)
    state = agent.adapt(state, support)
    query = played(agent, state, 2 * seed + 1, **units)
    agent.meta_update(state, query, np.random.default_rng(seed))
    return [support, query]


def linearised(
    agent: PolicyGradientAgent, state: TaskState, query: Trajectories
) -> LinearisedObjective:
    return agent.objective(state, query).linearised(agent.meta, None, torch.float32)


def stored(agent: PolicyGradientAgent) -> dict[str, bytes]:
    return {name: x.numpy().tobytes() for name, x in agent.state_dict().items()}


def returns_to_go(trajectories: Trajectories, discount: float) -> list[float]:
    """Returns the return from every valid step on, an episode after another."""
    found = []
    for k in range(TASKS):
        for e in range(EPISODES):
            total = 0.0
            for t in reversed(range(int(trajectories.mask[k, :, e].sum()))):
                total = float(trajectories.rewards[k, t, e]) + discount * total
                found.append(total)
    return found


def test_switched_off_it_does_nothing():
    agent = agent_with(NormalisationConfig())
    support, _ = update(agent, 0)
    assert agent.state_dict().keys() == agent.meta.keys()
    assert agent.normaliser.obs(support.obs) is support.obs
    assert agent.normaliser.trajectories(support) is support
    assert agent.adapt(agent.begin(), support).stats == ({},)


def test_the_statistics_are_numpys_of_every_valid_step_of_all_rounds():
    """Support and query of three meta-iterations."""
    agent = agent_with(BOTH)
    shown = [x for seed in range(3) for x in update(agent, seed, shift=3.0)]
    obs = np.concatenate([x.obs[x.mask].double().numpy() for x in shown])
    returns = np.array([r for x in shown for r in returns_to_go(x, 0.99)])
    for name, data in (("obs", obs), ("returns", returns)):
        seen = agent.normaliser.stats[name]
        assert seen.count == len(data)
        np.testing.assert_allclose(seen.mean, data.mean(0), rtol=1e-6)
        np.testing.assert_allclose(seen.m2, data.var(0) * len(data), rtol=1e-6)
        assert {x.dtype for x in seen} == {torch.float64}


def test_padding_is_never_counted():
    agent = agent_with(BOTH)
    clean = played(agent, agent.begin(), 0)
    nan = torch.tensor(float("nan"))
    dirty = clean._replace(
        obs=torch.where(clean.mask[..., None], clean.obs, nan),
        rewards=torch.where(clean.mask, clean.rewards, nan),
    )
    a, b = (agent.normaliser.statistics(x) for x in (clean, dirty))
    assert all(torch.equal(x, y) for name in a for x, y in zip(a[name], b[name], strict=True))


def test_only_meta_update_changes_the_statistics():
    """Evaluation, which adapts and never meta-learns, leaves the agent as it is."""
    agent = agent_with(BOTH)
    update(agent, 0)
    before = stored(agent)
    state = agent.begin()
    support = played(agent, state, 8)
    adapted = agent.adapt(agent.adapt(state, support), played(agent, state, 9))
    linearised(agent, adapted, played(agent, adapted, 10))
    assert stored(agent) == before
    update(agent, 1)
    changed = stored(agent)
    assert all(changed[name] != before[name] for name in before)


def test_acting_and_learning_see_the_same_numbers():
    """The objective's old policies are those that collected the data."""
    agent = agent_with(BOTH)
    update(agent, 0, scale=50.0, shift=7.0)
    state = agent.begin()
    state = agent.adapt(state, played(agent, state, 8, scale=50.0, shift=7.0))
    query = played(agent, state, 9, scale=50.0, shift=7.0)
    objective = linearised(agent, state, query)
    collected = torch.cat([x.flatten() for x in query.behaviour])
    learned = torch.cat([torch.cat(x).flatten() for x in zip(*objective.old, strict=True)])
    torch.testing.assert_close(learned, collected, atol=1e-5, rtol=1e-5)
    gain, kl = gain_and_kl(objective.data, agent.meta, objective.old).tolist()
    assert gain == pytest.approx(float(objective.gain), abs=1e-5)
    assert kl == pytest.approx(0.0, abs=1e-6)


def test_the_outer_step_is_taken_with_the_statistics_that_the_data_met():
    """meta_update is the outer rule on `objective`, which nothing changed in between."""
    agent = agent_with(BOTH)
    update(agent, 0)
    state = agent.begin()
    state = agent.adapt(state, played(agent, state, 8, shift=1.0))
    query = played(agent, state, 9, shift=1.0)
    data, rng = agent.objective(state, query), np.random.default_rng(0)
    expected, *_ = agent.outer.step(agent.meta, agent.outer_state, data, rng)
    agent.meta_update(state, query, np.random.default_rng(0))
    assert all(torch.equal(agent.meta[name], x) for name, x in expected.items())


def test_before_anything_was_seen_nothing_is_changed_and_then_clipped():
    agent = agent_with(replace(BOTH, clip=1.5))
    raw = played(agent, agent.begin(), 0, scale=50.0, shift=500.0, unit=1000.0)
    same = agent.normaliser.trajectories(raw)
    assert torch.equal(same.obs, raw.obs)
    assert torch.equal(same.rewards, raw.rewards)
    agent.normaliser = agent.normaliser.after(agent.normaliser.statistics(raw))
    normal = agent.normaliser.trajectories(raw)
    valid = raw.obs[raw.mask].double()
    expected = ((valid - valid.mean(0)) / valid.std(0, correction=0)).clamp(-1.5, 1.5)
    torch.testing.assert_close(normal.obs[raw.mask], expected.float())
    assert float(normal.obs.abs().max()) == 1.5
    torch.testing.assert_close(normal.final_obs, normal.obs[:, -1])
    assert {normal.obs.dtype, normal.rewards.dtype} == {torch.float32}
    assert np.std(returns_to_go(normal, 0.99)) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(
    "units",
    [{"scale": 50.0, "shift": 7.0}, {"unit": 1000.0}, {"unit": 1e-8}],
    ids=["obs x 50 + 7", "rewards x 1000", "rewards / 10^8"],
)
def test_units_make_no_difference_once_they_were_seen(units: dict[str, float]):
    """The same episodes in other units are the same batches and the same update. Without
    normalisation neither holds for the first and third: `standardize` has an epsilon of 1e-8."""
    plain, other = agent_with(BOTH), agent_with(BOTH)
    found = []
    for agent, given in ((plain, {}), (other, units)):
        first = played(agent, agent.begin(), 0)
        seen = first._replace(
            obs=given.get("scale", 1.0) * first.obs + given.get("shift", 0.0),
            rewards=given.get("unit", 1.0) * first.rewards,
        )
        agent.normaliser = agent.normaliser.after(agent.normaliser.statistics(seen))
        state = agent.begin()
        found.append(agent.batch(played(agent, state, 1, **given)))
        update(agent, 2, **given)
    a, b = found
    torch.testing.assert_close(b.obs, a.obs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(b.actions, a.actions, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(b.advantages, a.advantages, atol=1e-3, rtol=1e-3)
    for name, x in plain.meta.items():
        torch.testing.assert_close(other.meta[name], x, atol=1e-4, rtol=1e-3)


def test_a_resumed_agent_is_the_uninterrupted_one():
    """Through safetensors after the first update, bit for bit after the third."""
    whole, first, resumed = agent_with(BOTH), agent_with(BOTH), agent_with(BOTH, seed=5)
    for seed in range(3):
        update(whole, seed)
    update(first, 0)
    resumed.load_state_dict(safetensors.torch.load(safetensors.torch.save(first.state_dict())))
    for seed in (1, 2):
        update(resumed, seed)
    assert stored(resumed) == stored(whole)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    config = preset("point-goal")
    assert isinstance(config, Config)
    config = replace(
        config,
        env=replace(config.env, horizon=20),
        sampling=replace(config.sampling, tasks=3, episodes=4),
        agent=replace(config.agent, policy=PolicyConfig(hidden=(8,)), normalisation=BOTH),
        device="cpu",
    )
    found = []
    for name, stops in (("whole", (4,)), ("parts", (3, 4))):
        for iterations in stops:
            run = replace(config, iterations=iterations, run_dir=str(tmp_path / name))
            training.train(run, "x")
        loaded = checkpoint.load_latest(tmp_path / name / "checkpoints")
        assert loaded is not None
        found.append({name: x.numpy().tobytes() for name, x in loaded.tensors.items()})
    assert found[0] == found[1]
    assert "normalisation.obs.mean" in found[0]


@pytest.mark.parametrize(
    ("saved", "asked", "said"),
    [
        (BOTH, NormalisationConfig(), "of obs and returns, this agent's of nothing"),
        (NormalisationConfig(), BOTH, "of nothing, this agent's of obs and returns"),
        (NormalisationConfig(rewards=True), BOTH, "of returns, this agent's of obs and returns"),
    ],
)
def test_weights_of_another_normalisation_are_refused(saved, asked, said):
    agent = agent_with(asked)
    before = stored(agent)
    with pytest.raises(ValueError, match=f"{said}; agent.normalisation must be"):
        agent.load_state_dict(agent_with(saved).state_dict())
    assert stored(agent) == before


def test_statistics_of_another_width_are_refused():
    agent = agent_with(BOTH)
    state = agent.state_dict()
    state["normalisation.obs.mean"] = torch.zeros(OBS + 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="not this agent's"):
        agent.load_state_dict(state)


@pytest.mark.parametrize("field", ["obs", "rewards"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused_before_anything_changes(field: str, value: float):
    agent = agent_with(BOTH)
    state = agent.begin()
    state = agent.adapt(state, played(agent, state, 0))
    query = played(agent, state, 1)
    getattr(query, field)[0, 0, 0] = value
    before = stored(agent)
    with pytest.raises(UserError, match="not finite"):
        agent.meta_update(state, query, np.random.default_rng(0))
    assert stored(agent) == before


class FarPoint(PointEnv):
    """The same walk, its positions told in other units from a far origin."""

    def reset(self, seeds):
        return self.told(super().reset(seeds))

    def step(self, actions):
        step = super().step(actions)
        return step._replace(obs=self.told(step.obs))

    @staticmethod
    def told(position: np.ndarray) -> np.ndarray:
        return (100.0 * position + 500.0).astype(np.float32)


@pytest.mark.parametrize("normalised", [True, False])
def test_navigation_told_in_strange_units_is_learned_with_normalisation_alone(normalised: bool):
    """-12 before and -6 after adaptation, as with plain positions; -56 and -65 without."""
    tasks, episodes = 10, 10
    spec = PointGoal("point-goal", "", horizon=30).spec
    config = AgentConfig(
        name="maml-trpo",
        policy=PolicyConfig(hidden=(32,), init_std=0.5),
        inner=SgdConfig(lr=0.5),
        outer=TrpoConfig(),
        normalisation=NormalisationConfig(observations=normalised),
    )
    agent = PolicyGradientAgent(spec, config, np.random.default_rng(1), CPU)
    env = FarPoint(spec, tasks, episodes)
    after = []
    for n in range(25):
        goals = PointGoal("point-goal", "", 30).sample(tasks, np.random.default_rng(n))
        state, rounds = adaptation_rounds(agent, env, spec, goals, episodes, 1, (1, n), CPU)
        after.append(float(returns_of(rounds[-1]).mean()))
        agent.meta_update(state, rounds[-1], np.random.default_rng(n))
    found = np.mean(after[-5:])
    assert found > -10.0 if normalised else found < -40.0
