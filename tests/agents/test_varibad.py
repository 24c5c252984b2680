"""VariBAD: beliefs, what each of its two losses moves, its replay, and probes with known optima."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import probes
import pytest
import torch
from torch import Tensor
from whole_runs import rows, weights

from metarl.agents import catalogue
from metarl.agents.inner.belief import BeliefConfig
from metarl.agents.outer.belief_ppo import BeliefPpoConfig, parted
from metarl.agents.outer.elbo import Chances, TrialData
from metarl.agents.varibad import Trials, VariBad
from metarl.config.settings import (
    AdvantageConfig,
    AgentConfig,
    Config,
    NormalisationConfig,
    PolicyConfig,
)
from metarl.equations.running_stats import deviation
from metarl.experiments.presets import preset
from metarl.loop import training
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import EnvSpec, Trajectories, Workers

TASKS, EPISODES = 4, 3
CPU = torch.device("cpu")
SMALL = BeliefConfig(size=8, latent=2, obs_embedding=5, action_embedding=4, reward_embedding=3)


def config_of(steps: int = 2, **outer: Any) -> AgentConfig:
    return AgentConfig(
        name="varibad",
        inner=replace(SMALL, steps=steps),
        outer=BeliefPpoConfig(**{"minibatches": 2, "elbo_terms": 6, "predictions": 5, **outer}),
        policy=PolicyConfig((6,), "tanh"),
        advantages=AdvantageConfig(discount=0.9, gae_lambda=0.8),
        normalisation=NormalisationConfig(observations=True, rewards=True),
    )


class Longer(probes.Truncation):
    """Episodes of one to three steps."""

    horizon = 3


class Pupil:
    """An agent on a probe whose episodes differ in length."""

    def __init__(self, **outer: Any):
        self.tasks = probes.Probe(Longer)
        spec: EnvSpec = self.tasks.spec
        made = catalogue.build(spec, config_of(**outer), np.random.default_rng(0), CPU)
        assert isinstance(made, VariBad)
        self.agent = made

    def play(self, seed: int) -> tuple[Trials, list[Trajectories]]:
        env = self.tasks.open(TASKS, EPISODES, Workers(0))
        tasks = self.tasks.sample(TASKS, np.random.default_rng(seed))
        asked = (self.agent, env, self.tasks.spec, tasks, EPISODES, self.agent.steps, (seed,), CPU)
        return adaptation_rounds(*asked)

    def update(self, seed: int) -> dict[str, float]:
        state, rounds = self.play(seed)
        return self.agent.meta_update(state, rounds[-1], np.random.default_rng(seed))

    def whole(self, seed: int) -> Trials:
        """Whole trials, after an update that gives statistics."""
        self.update(0)
        state, rounds = self.play(seed)
        return self.agent.adapt(state, rounds[-1])


def test_one_pass_gives_the_log_probabilities_of_acting():
    """Across the episodes of a trial, each of its own length; statistics and all."""
    pupil = Pupil()
    played = pupil.agent.played(pupil.whole(1))
    steps = played.steps
    found = pupil.agent.policy.head(pupil.agent.meta, steps.inputs).log_probs(steps.actions)
    assert steps.mask.sum(1).max() > steps.mask.sum(1).min()
    torch.testing.assert_close(found[steps.mask], steps.log_probs[steps.mask], atol=1e-5, rtol=0)


def test_the_belief_reads_each_step_of_the_trial_and_where_it_led():
    """Step by step over the episodes: the observation after it, its action and scaled reward."""
    pupil = Pupil()
    agent, trials = pupil.agent, pupil.whole(1)
    unit = (agent.rewards.m2 / agent.rewards.count + agent.rewards.mean**2) ** 0.5
    for k, e in np.ndindex(TASKS, EPISODES):
        memory = torch.zeros(1, 8)
        for one, beliefs in zip(trials.rounds, trials.beliefs, strict=True):
            length = int(one.mask[k, :, e].sum())
            for t in range(length):
                torch.testing.assert_close(
                    beliefs[k, t, e], agent.encoder.beliefs(agent.meta, memory)[0]
                )
                led = one.final_obs[k, e] if t == length - 1 else one.obs[k, t + 1, e]
                taken = torch.eye(2)[int(one.actions[k, t, e])]
                reward = (one.rewards[k, t, e] / unit).float()
                read = (led[None, None], taken[None, None], reward[None, None])
                memory = agent.encoder.run(agent.meta, *read, memory)[:, 0]
        assert trials.memory is not None
        torch.testing.assert_close(trials.memory[k, e], memory[0])


@pytest.mark.parametrize("bootstrap", ["never", "trials", "episodes"])
def test_targets_go_on_at_the_time_limits_that_are_asked_for(bootstrap):
    """GAE by a loop backwards over each trial. A trial that terminates has no value beyond."""
    pupil = Pupil(bootstrap=bootstrap, standardise=False)
    agent, trials = pupil.agent, pupil.whole(1)
    played, state = agent.played(trials), agent.outer_state.policy
    policy, _ = parted(agent.meta)
    stats = agent.outer.ppo.returns_stats(played, state.returns)
    lessons, _ = agent.outer.ppo.lessons(policy, played, stats)
    mean, unit = float(stats.mean), float(deviation(stats))

    def value(inputs: Tensor) -> float:
        return mean + unit * float(agent.policy.value(policy, inputs[None]))

    expected, limits = [], 0
    for n, (k, e) in enumerate(np.ndindex(TASKS, EPISODES)):
        steps = []  # reward, value, whether a limit that counts ended it, value where it led
        for r, one in enumerate(trials.rounds):
            for t in range(int(one.mask[k, :, e].sum())):
                of_trial = bootstrap == "trials" and r == len(trials.rounds) - 1
                at_limit = bool(one.truncated[k, t, e]) and (bootstrap == "episodes" or of_trial)
                inputs = played.steps.inputs[n, len(steps)]
                beyond = value(played.reached[n, r]) if at_limit else None
                steps.append((float(one.rewards[k, t, e]), value(inputs), beyond))
        rest, following, found = 0.0, 0.0, []
        for reward, here, beyond in reversed(steps):
            if beyond is not None:
                rest, following, limits = 0.0, beyond, limits + 1
            rest = reward + 0.9 * following - here + 0.9 * 0.8 * rest
            following = here
            found.append(rest)
        expected += found[::-1]
    assert (limits > 0) == (bootstrap != "never")
    torch.testing.assert_close(lessons.advantages[:, 0] * unit, torch.tensor(expected))


def test_each_loss_moves_its_own_parameters():
    """PPO leaves the belief as it is, and the bound leaves the policy: other step sizes of one
    change nothing in the other, to the bit."""
    usual, bold, curious = Pupil(), Pupil(lr=0.1), Pupil(elbo_lr=0.1)
    for pupil in (usual, bold, curious):
        before = parted(pupil.agent.meta)
        assert pupil.update(0)["skipped"] == 0.0
        for one, after in zip(before, parted(pupil.agent.meta), strict=True):
            assert all(bool((one[name] != x).any()) for name, x in after.items())
    (policy, belief), of_bold, of_curious = (parted(x.agent.meta) for x in (usual, bold, curious))
    assert all(torch.equal(of_bold[1][name], x) for name, x in belief.items())
    assert all(torch.equal(of_curious[0][name], x) for name, x in policy.items())
    assert not any(torch.equal(of_bold[0][name], x) for name, x in policy.items())
    assert not any(torch.equal(of_curious[1][name], x) for name, x in belief.items())


def test_the_gradient_of_the_bound_against_finite_differences():
    """In float64, with predicted transitions too; trials of several lengths, in two parts."""
    pupil = Pupil(transitions=0.3, chunk=100, elbo_trials=10)
    pupil.update(0)
    ascent, rng = pupil.agent.outer.ascent, np.random.default_rng(3)
    drawn = pupil.agent.drawn(rng, 10)
    data = TrialData(*(x.double() if x.is_floating_point() else x for x in drawn))
    chances = ascent.chances(data, rng)
    chances = Chances(chances.terms, chances.predicted, chances.noise.double())
    assert int(data.lengths.max()) > int(data.lengths.min())
    params = {name: x.double() for name, x in parted(pupil.agent.meta)[1].items()}
    found, bound = ascent.gradient(params, data, chances)
    g = torch.Generator().manual_seed(1)
    way = {n: torch.randn(x.shape, generator=g, dtype=torch.float64) for n, x in params.items()}

    def loss(step: float) -> float:
        moved = {name: x + step * way[name] for name, x in params.items()}
        return float(ascent.bound(moved, data, chances).loss) / len(data.lengths)

    assert loss(0.0) == pytest.approx(float(bound.loss))
    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    assert float(sum((found[n] * way[n]).sum() for n in way)) == pytest.approx(slope, rel=1e-4)


def test_chances_stay_within_their_trials():
    """A belief of any step, that of none and of all included, predicts any step of its trial."""
    pupil = Pupil(elbo_terms=200, predictions=3)
    pupil.update(0)
    ascent, rng = pupil.agent.outer.ascent, np.random.default_rng(3)
    data = pupil.agent.drawn(rng, 6)
    chances = ascent.chances(data, rng)
    for n, length in enumerate(data.lengths.tolist()):
        assert set(chances.terms[n].tolist()) == set(range(length + 1))
        assert set(chances.predicted[n].flatten().tolist()) == set(range(length))


def test_the_replay_gives_back_the_steps_of_trials():
    """Whole trials in sequence, and nothing between their episodes."""
    pupil = Pupil()
    trials = pupil.whole(1)
    agent = pupil.agent
    agent.replay.segments = ()
    agent.remember(trials.rounds)
    data = agent.drawn(np.random.default_rng(0), 8)
    assert len(agent.replay) == TASKS * EPISODES
    expected = []
    for k, e in np.ndindex(TASKS, EPISODES):
        steps = []
        for one in trials.rounds:
            length = int(one.mask[k, :, e].sum())
            after = torch.cat([one.obs[k, 1:length, e], one.final_obs[k, e][None]])
            reward = agent.scaled(one.rewards[k, :length, e])
            steps.append(torch.cat([one.obs[k, :length, e], after, reward[:, None]], -1))
        expected.append(torch.cat(steps))
    found = torch.cat([data.obs, data.reached, data.rewards[..., None]], -1)
    for x, length in zip(found, data.lengths.tolist(), strict=True):
        alike = [y for y in expected if y.shape == x[:length].shape and torch.equal(y, x[:length])]
        assert alike


def test_what_is_not_finite_does_not_enter_the_replay():
    pupil = Pupil()
    pupil.update(0)
    state, rounds = pupil.play(1)
    rewards = rounds[-1].rewards.clone()
    rewards[0, 0, 0] = torch.nan
    before, kept = pupil.agent.state_dict(), pupil.agent.replay.segments
    spoilt = rounds[-1]._replace(rewards=rewards)
    assert pupil.agent.meta_update(state, spoilt, np.random.default_rng(0))["skipped"] == 1.0
    assert pupil.agent.replay.segments == kept
    assert all(torch.equal(before[n], x) for n, x in pupil.agent.state_dict().items())


def small(run_dir: Path, iterations: int) -> Config:
    config = preset("point-goal-rl2")
    assert isinstance(config, Config)
    agent = config_of(steps=1, replay=10, elbo_steps=2, elbo_trials=4)
    return replace(
        config, agent=agent, env=replace(config.env, horizon=5), iterations=iterations,
        sampling=replace(config.sampling, tasks=4, episodes=1), checkpoint_every=2, device="cpu",
        workers=0, run_dir=str(run_dir),
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_is_resumed_to_the_bit(tmp_path):
    """Also where the replay has forgotten the first trials, and with a worker process."""
    training.train(small(tmp_path / "whole", 5), "x")
    for iterations in (1, 4, 5):
        training.train(replace(small(tmp_path / "parts", iterations), workers=1), "x")
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    assert weights(tmp_path / "whole", 5) == weights(tmp_path / "parts", 5)


@pytest.mark.slow
def test_the_belief_after_a_step_tells_the_rewards_of_all_others():
    """Which action is good differs from task to task, and the first reward tells it. So the least
    squared error is a coin's 1/4 before any step, and 0 from the first one on."""
    config = config_of(steps=1, elbo_lr=1e-2, kl_weight=0.01)
    probe = probes.Probe(probes.TaskToIdentify)
    made = catalogue.build(probe.spec, config, np.random.default_rng(0), CPU)
    assert isinstance(made, VariBad)
    env, rng = probe.open(100, 1, Workers(0)), np.random.default_rng(1)

    def remembered(key: int) -> TrialData:
        made.replay.segments = ()
        asked = (probe.sample(100, rng), 1, 1, (key,), CPU)
        state, rounds = adaptation_rounds(made, env, made.spec, *asked)
        made.remember(made.adapt(state, rounds[-1]).rounds)
        return made.drawn(rng, 100)

    fresh, ascent = remembered(2), made.outer.ascent
    chances, left = ascent.chances(fresh, rng), []
    remembered(1)
    params, moments = parted(made.meta)[1], made.outer_state.elbo
    for _ in range(400):
        params, moments, _ = ascent.step(params, moments, made.drawn(rng, 10), rng)
    for term in (0, 1, 2):
        fixed = chances._replace(terms=torch.full_like(chances.terms, term))
        left.append(float(ascent.bound(params, fresh, fixed).reward_error) / 100)
    assert left[0] == pytest.approx(0.25, abs=0.05)
    assert max(left[1:]) < 0.03
