"""Collection: masks, endings and keys, on an environment whose every number is known."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from metarl.equations.gaussian import Gaussian
from metarl.errors import EnvFaultError, UnstableError
from metarl.sampling.collect import collect, draw, memoryless, returns_of
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import EnvSpec, StepResult

SPEC = EnvSpec("counter", Box(-np.inf, np.inf, (2,)), Box(-1, 1, (1,)), 6)


class Counter:
    """Observation (t, episode); reward t + 1; episode e terminates after e + 2 steps, e < 3."""

    def __init__(self, tasks: int, episodes: int):
        self.shape, self.t = (tasks, episodes), 0

    def set_tasks(self, tasks) -> None: ...

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        assert seeds.shape == self.shape
        assert len(np.unique(seeds)) == seeds.size
        self.t = 0
        return self.obs()

    def obs(self) -> np.ndarray:
        episode = np.broadcast_to(np.arange(self.shape[1]), self.shape)
        return np.stack([np.full(self.shape, self.t), episode], -1).astype(np.float32)

    def step(self, actions: np.ndarray) -> StepResult:
        assert actions.shape == (*self.shape, 1)
        self.t += 1
        ends = np.arange(self.shape[1]) + 2
        terminated = np.broadcast_to((self.t >= ends) & (ends < 5), self.shape)
        truncated = np.full(self.shape, self.t >= SPEC.horizon)
        solved = np.full(self.shape, self.t in (3, 5))
        reward = np.full(self.shape, float(self.t), np.float32)
        obs = self.obs()
        obs[:, (self.t > ends) & (ends < 5)] = (
            np.nan
        )  # what an environment says after its end is anything
        return StepResult(obs, reward, terminated, truncated, solved)

    def close(self) -> None: ...


def act(obs, noise):
    distribution = Gaussian(obs[..., :1], torch.tensor([-1.0]))
    return distribution.sample(noise), distribution


def collected(episodes=4, tasks=2):
    draws = draw(SPEC, tasks, episodes, ("normal", 1), 1, 0, 0)
    return collect(
        Counter(tasks, episodes), memoryless(act), draws, SPEC, torch.device("cpu")
    ), draws


def test_masks_and_endings():
    """Lengths 2, 3, 4 end by termination, the fourth at the horizon of 6 by truncation."""
    found, _ = collected()
    assert found.mask.sum(1).tolist() == [[2, 3, 4, 6]] * 2
    assert found.terminated[0].nonzero().tolist() == [[1, 0], [2, 1], [3, 2]]
    assert found.truncated[0].nonzero().tolist() == [[5, 3]]
    assert returns_of(found)[0].tolist() == [3.0, 6.0, 10.0, 21.0]


def test_final_obs_is_the_state_the_last_step_reached():
    found, _ = collected()
    assert found.final_obs[1, :, 0].tolist() == [2.0, 3.0, 4.0, 6.0]
    assert found.obs[0, :, 3, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_nothing_beyond_an_end_is_kept():
    found, _ = collected()
    assert found.obs.isfinite().all()
    assert found.actions.isfinite().all()


@pytest.mark.parametrize("field", ["obs", "rewards"])
def test_what_is_no_number_is_named_while_its_episode_lasts(field):
    """Episode 0 is over when its observation becomes nan; the third is not."""

    class Broken(Counter):
        def step(self, actions: np.ndarray) -> StepResult:
            step = super().step(actions)
            if self.t == 4:
                values = getattr(step, field)
                values[1, 0] = values[1, 3] = np.nan
            return step

    draws = draw(SPEC, 2, 4, ("normal", 1), 1, 0, 0)
    tasks = [{"number": 1}, {"number": 2}]
    with pytest.raises(EnvFaultError, match=r"nan.*; task {'number': 2}, episode 3, step 4"):
        collect(Broken(2, 4), memoryless(act), draws, SPEC, torch.device("cpu"), tasks)


def test_success_counts_within_the_episode_only():
    """Episode 0 was over when its environment said solved."""
    found, _ = collected()
    assert found.success[0].tolist() == [False, True, True, True]
    assert found.solved_at[0, 0] == 0
    assert found.solved_at[0, 1:].tolist() == [3, 3, 3]


def test_time_stops_when_all_episodes_ended():
    found, _ = collected(episodes=2)
    assert found.obs.shape == (2, 3, 2, 2)


def test_actions_come_from_the_behaviour_stored_beside_them():
    found, draws = collected()
    assert found.behaviour[0].shape == (2, 6, 4, 1)
    noise = draws.noise.first(6).permute(1, 0, 2, 3)
    torch.testing.assert_close(found.actions, found.behaviour.sample(noise))


def test_draws_depend_on_their_key_and_not_on_the_batch():
    """Episode (k, e) draws the same whatever the number of tasks and episodes around it."""
    small = draw(SPEC, 1, 2, ("normal", 3), 7, 5, 0)
    large = draw(SPEC, 3, 4, ("normal", 3), 7, 5, 0)
    other = draw(SPEC, 3, 4, ("normal", 3), 7, 6, 0)
    alike = draw(SPEC, 3, 4, ("normal", 3), 7, 5, 0, alike=True)
    assert (small.reset_seeds[0] == large.reset_seeds[0, :2]).all()
    assert (alike.reset_seeds == large.reset_seeds[:1]).all()
    one, many, others, same = (x.noise.first(SPEC.horizon) for x in (small, large, other, alike))
    assert torch.equal(one[:, 0], many[:, 0, :2])
    assert torch.equal(same, many[:, :1].expand_as(many))
    assert not torch.equal(many, others)
    assert many.unique().numel() == many.numel()


@pytest.mark.parametrize("kind", ["normal", "gumbel"])
def test_noise_of_long_episodes_is_that_of_one_draw(kind, monkeypatch):
    """Blocks are drawn as far as needed, and join to the numbers of a single block."""
    long = SPEC._replace(horizon=1100)
    whole = draw(long, 2, 2, (kind, 3), 7).noise.first(1100)
    monkeypatch.setattr("metarl.sampling.collect.BLOCK", 2000)
    assert torch.equal(draw(long, 2, 2, (kind, 3), 7).noise.first(1100), whole)


def test_zero_noise_begins_the_same_episodes():
    drawn, none = (draw(SPEC, 2, 3, (kind, 4), 7, 1) for kind in ("normal", "zero"))
    assert (drawn.reset_seeds == none.reset_seeds).all()
    assert torch.equal(none.noise.first(2), torch.zeros(2, 2, 3, 4))


def test_an_endless_horizon_costs_what_its_episodes_cost():
    """Ten million steps of noise would take gigabytes."""
    env, spec = Counter(2, 4), SPEC._replace(horizon=10**7)
    tracemalloc.start()
    draws = draw(spec, 2, 4, ("normal", 1), 1)
    found = collect(env, memoryless(act), draws._replace(steps=3), spec, torch.device("cpu"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.mask.shape[1] == 3
    assert peak < 10e6


@pytest.mark.parametrize(("kind", "mean"), [("normal", 0.0), ("gumbel", 0.5772)])
def test_noise_is_what_its_kind_says(kind, mean):
    noise = draw(SPEC, 20, 20, (kind, 20), 1).noise.first(SPEC.horizon)
    assert float(noise.mean()) == pytest.approx(mean, abs=0.02)


class Recorder:
    """An agent whose state is the list of supports it adapted on."""

    noise = ("normal", 1)

    def begin(self):
        return []

    def actor(self, state, episodes):
        return memoryless(act)(episodes)

    def adapt(self, state, support):
        return [*state, support]


def test_each_adaptation_step_learns_from_fresh_episodes_of_its_own_round():
    """Step r adapts on round r; rounds draw different noise; the last one is the query."""
    env, cpu = Counter(2, 4), torch.device("cpu")
    agent: Any = Recorder()
    state, rounds = adaptation_rounds(agent, env, SPEC, [{}, {}], 4, 3, (1, 0), cpu)
    assert len(rounds) == 4
    assert all(a is b for a, b in zip(state, rounds[:-1], strict=True))
    firsts = [x.actions[0, 0, 0, 0].item() for x in rounds]
    assert len(set(firsts)) == 4


@pytest.mark.parametrize("log_std", [100.0, float("nan")])
def test_actions_that_overflow_are_a_fault_of_the_policy(log_std):
    """exp(100) is no number of float32, though the distribution's own numbers are finite."""

    class Wide(Recorder):
        def actor(self, state, episodes):
            def wide(obs, noise):
                distribution = Gaussian(obs[..., :1] * 0.0, torch.full_like(noise, log_std))
                return distribution.sample(noise), distribution

            return memoryless(wide)(episodes)

    agent: Any = Wide()
    with pytest.raises(UnstableError, match="after 0 adaptation steps gives numbers that are not"):
        adaptation_rounds(agent, Counter(2, 4), SPEC, [{}, {}], 4, 1, (1, 0), torch.device("cpu"))
