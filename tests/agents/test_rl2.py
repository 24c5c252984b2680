"""RL2: inputs, back-propagation through a trial, and probes with known optima."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import Tensor

from metarl.agents import catalogue
from metarl.agents.inner.trial import TrialConfig
from metarl.agents.outer.trial_ppo import TrialPpoConfig
from metarl.agents.outer.trials import Lessons, Steps
from metarl.agents.rl2 import Rl2
from metarl.agents.trial_agent import Trials
from metarl.config.settings import AdvantageConfig, AgentConfig, NormalisationConfig, PolicyConfig
from metarl.envs.arrays.bandit import Bandit
from metarl.envs.arrays.point_goal import PointGoal
from metarl.equations.distributions import each
from metarl.errors import UserError
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import EnvSpec, Params, StepResult, Trajectories, Workers

TASKS, STEPS, EPISODES, OBS = 3, 6, 5, 2
CPU = torch.device("cpu")
WEIGHT = torch.tensor(0.1, dtype=torch.float64)
"""Weight of the entropy in the loss of these tests."""
SPACES = {"box": Box(-1, 1, (2,)), "discrete": Discrete(3), "multidiscrete": MultiDiscrete([3, 2])}

cells = pytest.mark.parametrize("cell", ["gru", "lstm", "transformer"])


class Part:
    """Episodes of a length of their own, whose rewards depend on the action; all from the seed."""

    checked = False

    def __init__(self, episodes: slice):
        self.episodes = episodes

    def start(self, seeds: np.ndarray) -> None:
        self.t = 0
        chance = np.vectorize(
            lambda s: np.random.default_rng(s).random(2 * STEPS), signature="()->(n)"
        )
        self.chance = chance(seeds).astype(np.float32)  # [K, e, 2 STEPS]
        self.lengths = 1 + (self.chance[..., -1] * STEPS).astype(int)

    def first_obs(self) -> np.ndarray:
        return self.chance[..., self.t : self.t + OBS]

    def send(self, actions: np.ndarray) -> None:
        self.t += 1
        last = self.t == self.lengths
        self.step = StepResult(
            self.first_obs(),
            actions[..., 0].astype(np.float32) + self.chance[..., self.t],
            last & (self.lengths < STEPS),
            last & (self.lengths == STEPS),
            last & False,
        )

    def receive(self) -> StepResult:
        return self.step


def agent_on(space: str, cell: Any = "gru", steps: int = 2, seed: int = 0, **outer: Any) -> Rl2:
    spec = EnvSpec("problem", Box(-1, 1, (OBS,)), SPACES[space], STEPS)
    config = AgentConfig(
        name="rl2",
        inner=TrialConfig(cell, 8, steps),
        outer=TrialPpoConfig(**{"minibatches": 2, "lr": 1e-2, **outer}),
        policy=PolicyConfig((6,), "tanh"),
        advantages=AdvantageConfig(discount=0.9, gae_lambda=0.8),
        normalisation=NormalisationConfig(observations=True, rewards=True),
    )
    return Rl2(spec, config, np.random.default_rng(seed), CPU)


def played(
    agent: Rl2, seed: int = 0, parts: tuple[slice, ...] = (slice(0, EPISODES),)
) -> tuple[Trials, list[Trajectories]]:
    env: Any = SimpleNamespace(parts=[Part(p) for p in parts], set_tasks=lambda tasks: None)
    tasks = [{}] * TASKS
    return adaptation_rounds(
        agent, env, agent.spec, tasks, EPISODES, agent.steps, (seed,), agent.device
    )


def update(agent: Rl2, seed: int = 0) -> dict[str, float]:
    state, rounds = played(agent, seed)
    return agent.meta_update(state, rounds[-1], np.random.default_rng(seed))


@cells
@pytest.mark.parametrize("space", list(SPACES))
@pytest.mark.parametrize("parts", [(slice(0, 5),), (slice(0, 3), slice(3, 5))], ids=["1", "2"])
def test_one_pass_gives_the_log_probabilities_of_acting(cell, space, parts):
    """Across the episodes of a trial, each of its own length; statistics and all."""
    agent = agent_on(space, cell)
    update(agent)
    state, rounds = played(agent, 1, parts)
    steps = agent.trial_steps(state, rounds[-1])
    shown = torch.cat([x for _, x, _ in agent.outer.passes(agent.meta, steps.inputs)], 1)
    found = agent.policy.head(agent.meta, shown).log_probs(steps.actions)
    assert 3 * STEPS > steps.mask.sum(1).max() > steps.mask.sum(1).min()
    torch.testing.assert_close(found[steps.mask], steps.log_probs[steps.mask], atol=1e-5, rtol=0)


def test_a_trial_is_told_what_came_before_each_of_its_steps():
    """One-hot action, reward and end of episode of the step before, by a loop over the trial."""
    agent = agent_on("discrete")
    update(agent)
    state, rounds = played(agent, 1)
    steps = agent.trial_steps(state, rounds[-1])
    unit = float(agent.rewards.m2 / agent.rewards.count + agent.rewards.mean**2) ** 0.5
    for k in range(TASKS):
        for e in range(EPISODES):
            row, inputs = k * EPISODES + e, []
            before = [0.0] * 5
            for episode in rounds:
                for t in range(int(episode.mask[k, :, e].sum())):
                    obs = agent.normaliser.obs(episode.obs[k, t, e])
                    inputs.append([*obs.tolist(), *before])
                    action, reward = int(episode.actions[k, t, e]), episode.rewards[k, t, e]
                    one_hot = [float(a == action) for a in range(3)]
                    before = [*one_hot, float(reward) / unit, 0.0]
                before[-1] = 1.0
            assert int(steps.mask[row].sum()) == len(inputs)
            torch.testing.assert_close(steps.inputs[row, : len(inputs)], torch.tensor(inputs))


@cells
def test_the_last_reward_and_the_end_reach_the_next_episode(cell):
    """Acting after an episode depends on its last reward and on its end, by the network's own
    derivatives, and on nothing of other trials."""
    agent = agent_on("box", cell, steps=1)
    state, rounds = played(agent)
    support = rounds[0]
    obs, noise = torch.zeros(TASKS, EPISODES, OBS), torch.zeros(TASKS, EPISODES, 2)

    def first_action(support: Trajectories, state: Trials | None = None) -> Tensor:
        state = state or agent.adapt(agent.begin(), support)
        return agent.actor(state, slice(0, EPISODES))(obs, None, noise)[0]

    rewards, last = support.rewards.clone(), int(support.mask[1, :, 2].sum()) - 1
    rewards[1, last, 2] += 1.0
    moved = (first_action(support) != first_action(support._replace(rewards=rewards))).any(-1)
    assert moved.nonzero().tolist() == [[1, 2]]
    (past,) = state.pasts
    assert past.before[..., -1].eq(1.0).all()
    silent = past._replace(before=past.before * torch.tensor([1.0] * 3 + [0.0]))
    assert (first_action(support) != first_action(support, Trials((), (silent,)))).all()


def test_a_trial_begins_with_nothing_remembered():
    """Equal draws give equal episodes, also after other episodes were played."""
    agent = agent_on("discrete")
    _, first = played(agent, 0)
    played(agent, 1)
    state, again = played(agent, 0)
    assert all(torch.equal(a.actions, b.actions) for a, b in zip(first, again, strict=True))
    assert all(x.any() for x in state.pasts[0].memory)
    assert not any(x.any() for x in agent.empty_past(TASKS, EPISODES).memory)
    obs, noise = torch.ones(TASKS, EPISODES, OBS), torch.zeros(TASKS, EPISODES, 3)
    start, later = (
        agent.actor(known, slice(0, EPISODES))(obs, None, noise)[1][0]
        for known in (agent.begin(), state)
    )
    torch.testing.assert_close(start, start[:1, :1].expand_as(start))
    assert not torch.isclose(start, later).all(-1).any()


def test_more_episodes_may_be_shown_than_trials_are_under_way():
    agent = agent_on("discrete")
    state, _ = played(agent)
    obs, noise = torch.ones(TASKS, 7, OBS), torch.zeros(TASKS, 7, 3)
    logits = agent.actor(state, slice(0, 7))(obs, None, noise)[1][0]
    torch.testing.assert_close(logits[:, 5:], logits[:, :2])


def double(agent: Rl2) -> tuple[dict[str, Tensor], Lessons]:
    """Parameters a little beside those that acted, and what is to be learned; float64."""
    g = torch.Generator().manual_seed(0)
    state, rounds = played(agent)
    steps = agent.trial_steps(state, rounds[-1])
    doubled = Steps(*(x.double() if x.is_floating_point() else x for x in steps))
    before = {name: x.double() for name, x in agent.meta.items()}
    seen = agent.outer.returns_stats(doubled, agent.outer_state.returns)
    lessons, _ = agent.outer.lessons(before, doubled, seen)
    near = {n: x + 0.05 * torch.randn(x.shape, generator=g) for n, x in before.items()}
    return near, lessons


@cells
@pytest.mark.parametrize("chunk", [4, 100])
def test_the_gradient_is_autograds_cut_at_the_borders_of_chunks(cell, chunk):
    """The loss written out over single steps, the memory detached where a chunk begins."""
    agent = agent_on("discrete", cell, chunk=chunk, entropy=0.1)
    params, lessons = double(agent)
    found, _ = agent.outer.gradient(params, lessons, WEIGHT)
    right, other = (by_steps(agent, params, lessons, cut) for cut in (chunk, 5))
    for name, x in found.items():
        torch.testing.assert_close(x, right[name])
    name = "cell.layer0.qkv.weight" if cell == "transformer" else "cell.weight_hh"
    assert not torch.allclose(found[name], other[name])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("chunk", [4, 6, 100])
def test_stored_memories_are_those_before_the_update(cell, chunk):
    """Each chunk goes on from where the acting parameters were, whatever the present ones are."""
    agent, apart = (
        agent_on("discrete", cell, chunk=chunk, entropy=0.1, memory=memory)
        for memory in ("recomputed", "stored")
    )
    (params, whole), (_, chunks) = double(agent), double(apart)
    steps = whole.weights.shape[1]
    lengths = (whole.weights > 0).sum(1)
    assert chunks.inputs.shape[:2] == (int((lengths / chunk).ceil().sum()), chunk)
    found, reading = apart.outer.gradient(params, chunks, WEIGHT)
    before = {name: x.double() for name, x in agent.meta.items()}
    for name, x in by_steps(agent, params, whole, chunk, before).items():
        torch.testing.assert_close(found[name], x)
    recomputed, of_whole = agent.outer.gradient(params, whole, WEIGHT)
    same = torch.allclose(found["cell.weight_hh"], recomputed["cell.weight_hh"])
    assert same == (chunk >= steps)
    assert torch.allclose(reading.kl, of_whole.kl) == same
    for way in (agent, apart):  # before the first step no memory is stale
        lessons = whole if way is agent else chunks
        here = way.outer.gradient(before, lessons, WEIGHT)[0]["cell.weight_hh"]
        torch.testing.assert_close(here, by_steps(agent, before, whole, chunk)["cell.weight_hh"])


def test_minibatches_are_drawn_from_chunks():
    """All steps of a trial count once in an epoch. A minibatch may be one chunk: none is padding
    alone, although trials end at different steps."""
    agent = agent_on("box", chunk=4, memory="stored", minibatches=100, epochs=1)
    descended, seen = agent.outer.descend, []

    def noted(at, lessons, chosen, weighing):
        seen.append((lessons.weights, chosen))
        return descended(at, lessons, chosen, weighing)

    agent.outer.descend = noted
    metrics = update(agent)
    assert metrics["skipped"] == 0.0
    assert len(seen) == len(seen[0][0])
    rows = torch.cat([chosen for _, chosen in seen])
    assert sorted(rows.tolist()) == list(range(len(seen[0][0])))
    assert float(seen[0][0].sum()) == pytest.approx(1.0)


def by_steps(
    agent: Rl2, params: Params, lessons: Lessons, cut: int, stored: Params | None = None
) -> Params:
    """Gradient of the loss over single steps. Every `cut` steps the memory is detached, or is that
    of other parameters, `stored`."""
    leaves = {name: x.detach().clone().requires_grad_() for name, x in params.items()}
    memory = agent.policy.empty_memory(len(lessons.inputs), like=lessons.inputs)
    other, loss = memory, torch.zeros(())
    for t in range(lessons.inputs.shape[1]):
        now = lessons.inputs[:, t : t + 1]
        if t % cut == 0:
            memory = tuple(x.detach() for x in (other if stored else memory))
        if stored:
            other = agent.policy.run(stored, now, other)[1]
        shown, memory = agent.policy.run(leaves, now, memory)
        policy = agent.policy.head(leaves, shown[:, 0])
        ratio = (policy.log_probs(lessons.actions[:, t]) - lessons.log_probs[:, t]).exp()
        advantage = lessons.advantages[:, t]
        gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        off = (agent.policy.value(leaves, shown[:, 0]) - lessons.targets[:, t]).square()
        here = 0.5 * off - gain - 0.1 * policy.entropy()
        loss = loss + (lessons.weights[:, t] * here).sum()
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


@cells
@pytest.mark.parametrize("space", list(SPACES))
@pytest.mark.parametrize("outer", [{}, {"value_clip": 0.02, "huber": 0.5, "bootstrap": "episodes"}])
def test_the_gradient_of_whole_trials_against_finite_differences(cell, space, outer):
    agent = agent_on(space, cell, entropy=0.1, **outer)
    params, lessons = double(agent)
    found, _ = agent.outer.gradient(params, lessons, WEIGHT)
    g = torch.Generator().manual_seed(1)
    way = {n: torch.randn(x.shape, generator=g, dtype=torch.float64) for n, x in params.items()}

    def loss(step: float) -> float:
        moved = {name: x + step * way[name] for name, x in params.items()}
        return float(agent.outer.loss(agent.outer.gradient(moved, lessons, WEIGHT)[1], WEIGHT))

    slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    assert float(sum((found[n] * way[n]).sum() for n in way)) == pytest.approx(slope, rel=1e-5)


def test_the_entropys_weight_halves():
    """Every 2 updates of 3 x 4 steps, in what the gradient weighs."""
    agent = agent_on("discrete", entropy=0.1, entropy_half_life=2.0, epochs=3, minibatches=4)
    weighed, gradient = [], agent.outer.gradient

    def noted(params, lessons, entropy):
        weighed.append(float(entropy))
        return gradient(params, lessons, entropy)

    agent.outer.gradient = noted
    for seed in range(3):
        update(agent, seed)
    assert weighed[::12] == pytest.approx([0.1, 0.1 * 0.5**0.5, 0.05])
    assert len(weighed) == 36


def test_minibatches_end_once_one_finds_the_policy_far():
    """The step that it asks for is not taken."""
    agent = agent_on("box", epochs=6, minibatches=4, target_kl=0.03)
    kls, gradient = [], agent.outer.gradient

    def noted(params, lessons, entropy):
        found = gradient(params, lessons, entropy)
        kls.append(float(found[1].kl))
        return found

    agent.outer.gradient = noted
    metrics = update(agent)
    *within, beyond = kls
    assert 2 < len(kls) < 24
    assert max(within) <= 0.03 < beyond
    assert metrics["epochs"] == len(within) / 4
    assert float(agent.state_dict()["adam.count"]) == len(within)


def test_advantages_go_on_over_the_ends_of_episodes():
    """GAE by a loop over each trial, zero beyond its last step; whatever the rewards' scale."""
    agent = agent_on("discrete")
    update(agent)
    state, rounds = played(agent, 1)
    steps = agent.trial_steps(state, rounds[-1])
    seen = agent.outer.returns_stats(steps, agent.outer_state.returns)
    lessons, _ = agent.outer.lessons(agent.meta, steps, seen)
    mean, unit = float(seen.mean), float((seen.m2 / seen.count).sqrt())
    shown, _ = agent.policy.run(
        agent.meta, steps.inputs, agent.policy.empty_memory(len(steps.inputs), like=steps.inputs)
    )
    values = mean + unit * agent.policy.value(agent.meta, shown).detach()
    advantages, returns = torch.zeros_like(values), torch.zeros_like(values)
    for row, length in enumerate(steps.mask.sum(1).tolist()):
        for t in reversed(range(length)):
            later = t + 1 if t + 1 < length else None
            beyond = 0.0 if later is None else values[row, later]
            delta = steps.rewards[row, t] + 0.9 * beyond - values[row, t]
            rest = 0.0 if later is None else advantages[row, later]
            advantages[row, t] = delta + 0.9 * 0.8 * rest
            returns[row, t] = steps.rewards[row, t]
            returns[row, t] += 0.0 if later is None else 0.9 * returns[row, later]
    valid = advantages[steps.mask]
    standard = (advantages - valid.mean()) / valid.std(correction=0)
    for found, expected in (
        (lessons.advantages, standard),
        (lessons.targets, (advantages + values - mean) / unit),
    ):
        torch.testing.assert_close(found[steps.mask], expected[steps.mask], atol=1e-4, rtol=1e-4)
    assert (lessons.weights > 0).equal(steps.mask)
    some = lessons.trials(torch.tensor([1, 4]))
    assert torch.equal(some.inputs, lessons.inputs[[1, 4]])
    assert float(some.weights.sum()) == pytest.approx(1.0)
    first = agent.outer.returns_stats(steps, agent_on("discrete").outer_state.returns)
    assert float(first.mean) == pytest.approx(float(returns[steps.mask].mean()), rel=1e-5)


@pytest.mark.parametrize("bootstrap", ["trials", "episodes"])
def test_returns_go_on_at_time_limits(bootstrap):
    """By a loop over each trial: a step at a limit has its value as return, and no advantage; an
    episode that a state ended runs on into the next."""
    agent = agent_on("discrete", bootstrap=bootstrap, standardise=False)
    state, rounds = played(agent, 1)
    steps = agent.trial_steps(state, rounds[-1])
    seen = agent.outer.returns_stats(steps, agent.outer_state.returns)
    lessons, _ = agent.outer.lessons(agent.meta, steps, seen)
    mean, unit = float(seen.mean), float((seen.m2 / seen.count).sqrt())
    values, limits = mean + unit * lessons.values, 0
    expected = torch.zeros_like(values)
    for row, length in enumerate(steps.mask.sum(1).tolist()):
        ends = iter(
            np.cumsum([int(x.mask[row // EPISODES, :, row % EPISODES].sum()) for x in rounds])
        )
        by_time = iter(
            [bool(x.truncated[row // EPISODES, :, row % EPISODES].any()) for x in rounds]
        )
        limit = {int(end) - 1 for end in ends if next(by_time)}
        limit = limit if bootstrap == "episodes" else limit & {length - 1}
        limits += len(limit)
        for t in reversed(range(length)):
            if t in limit:
                continue
            last = t == length - 1
            beyond, rest = (0.0, 0.0) if last else (values[row, t + 1], expected[row, t + 1])
            delta = steps.rewards[row, t] + 0.9 * beyond - values[row, t]
            expected[row, t] = delta + 0.9 * 0.8 * rest
    assert limits > (5 if bootstrap == "episodes" else 1)
    where = steps.mask
    torch.testing.assert_close(
        lessons.advantages[where], expected[where] / unit, atol=1e-5, rtol=1e-4
    )
    targets = (expected + values - mean) / unit
    torch.testing.assert_close(lessons.targets[where], targets[where], atol=1e-5, rtol=1e-4)
    centred = agent_on("discrete", bootstrap=bootstrap)
    standard = centred.outer.lessons(agent.meta, steps, seen)[0].advantages
    valid = expected[where]
    usual = (expected - valid.mean()) / valid.std(correction=0)
    torch.testing.assert_close(
        standard[where], torch.where(expected == 0.0, 0.0, usual)[where], atol=1e-4, rtol=1e-4
    )


def test_learning_does_not_depend_on_the_scale_of_rewards():
    agent = agent_on("discrete")
    state, rounds = played(agent)
    steps = agent.trial_steps(state, rounds[-1])
    found = []
    for scale in (1.0, -1e-3, 1e4):
        scaled = steps._replace(rewards=scale * steps.rewards)
        seen = agent.outer.returns_stats(scaled, agent.outer_state.returns)
        found.append(agent.outer.lessons(agent.meta, scaled, seen)[0])
    torch.testing.assert_close(found[2].advantages, found[0].advantages, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found[2].targets, found[0].targets, atol=1e-3, rtol=1e-3)
    assert found[1].targets.abs().max() < 20.0


def test_rewards_are_told_in_units_of_their_root_mean_square():
    """A constant reward is one, not divided by its deviation of nothing; clipped at 10."""
    agent = agent_on("discrete")
    action, rewards = torch.zeros(2, 1, dtype=torch.int64), torch.tensor([-300.0, 1e9])
    assert agent.before(action, rewards, ended=False)[0, 3] == -10.0  # nothing was seen: units of 1
    agent.rewards = agent.rewards._replace(
        count=torch.tensor(5.0).double(), mean=torch.tensor(300.0).double()
    )
    assert agent.before(action, rewards, ended=False)[:, 3].tolist() == [-1.0, 10.0]


def test_only_meta_update_changes_the_agent():
    agent = agent_on("discrete")
    before = {name: x.clone() for name, x in agent.state_dict().items()}
    state, rounds = played(agent)
    old = each(Tensor.clone, rounds[0].behaviour), [x.clone() for x in state.pasts[0].memory]
    one, two = (agent.adapt(state, rounds[-1]) for _ in range(2))
    assert all(torch.equal(before[n], x) for n, x in agent.state_dict().items())
    assert all(torch.equal(x, y) for x, y in zip(old[1], state.pasts[0].memory, strict=True))
    for past, again in zip(one.pasts, two.pasts, strict=True):
        assert torch.equal(past.before, again.before)
        assert all(torch.equal(x, y) for x, y in zip(past.memory, again.memory, strict=True))
    metrics = agent.meta_update(state, rounds[-1], np.random.default_rng(0))
    assert metrics["skipped"] == 0.0
    assert all(not torch.equal(before[n], x) for n, x in agent.state_dict().items())


@cells
def test_a_resumed_run_goes_on_to_the_bit(cell):
    straight, first = agent_on("box", cell), agent_on("box", cell)
    resumed = agent_on("box", cell, seed=9)
    for seed in range(2):
        update(straight, seed)
        update(first, seed)
    resumed.load_state_dict({name: x.clone() for name, x in first.state_dict().items()})
    assert update(straight, 2) == update(resumed, 2)
    for name, x in straight.state_dict().items():
        assert torch.equal(x, resumed.state_dict()[name])
    with pytest.raises(ValueError, match="not this agent's"):
        agent_on("discrete", cell).load_state_dict(straight.state_dict())


def test_what_is_not_finite_is_skipped():
    agent = agent_on("box")
    update(agent)
    before = {name: x.clone() for name, x in agent.state_dict().items()}
    state, rounds = played(agent)
    rewards = rounds[-1].rewards.clone()
    rewards[0, 0, 0] = float("nan")
    metrics = agent.meta_update(
        state, rounds[-1]._replace(rewards=rewards), np.random.default_rng(0)
    )
    assert metrics["skipped"] == 1.0
    assert all(torch.equal(before[n], x) for n, x in agent.state_dict().items())


def test_nor_is_a_last_step_that_leads_out_of_the_numbers():
    agent = agent_on("box", lr=1e37, epochs=1, minibatches=1)
    before = {name: x.clone() for name, x in agent.state_dict().items()}
    assert update(agent)["skipped"] == 1.0
    assert all(torch.equal(before[n], x) for n, x in agent.state_dict().items())


def trained_on_bandits(
    arms: list[list[float]], horizon: int, cell: Any, steps: int, iterations: int
) -> list[float]:
    """RL2 on these bandits in turn: mean returns of a trial's episodes."""
    distribution = Bandit("bandit:2", "2", horizon)
    config = AgentConfig(
        name="rl2",
        inner=TrialConfig(cell, 16, steps),
        outer=TrialPpoConfig(lr=1e-2, epochs=4, entropy=0.01),
        policy=PolicyConfig(()),
        advantages=AdvantageConfig(discount=1.0, gae_lambda=0.95),
    )
    agent = Rl2(distribution.spec, config, np.random.default_rng(0), CPU)
    tasks = [{"probabilities": pays} for pays in arms]
    env = distribution.open(len(tasks), 60, Workers())
    asked = (agent, env, agent.spec, tasks, 60)
    for index in range(iterations):
        state, rounds = adaptation_rounds(*asked, agent.steps, (1, index), CPU)
        agent.meta_update(state, rounds[-1], np.random.default_rng(index))
    _, rounds = adaptation_rounds(*asked, agent.steps, (2,), CPU)
    return [float((x.rewards * x.mask).sum(1).mean()) for x in rounds]


@cells
def test_it_explores_once_and_then_exploits(cell):
    """One arm always pays and the other never: half the first pull and all others."""
    (found,) = trained_on_bandits([[1.0, 0.0], [0.0, 1.0]], 6, cell, 0, 20)
    assert found > 0.98 * 5.5


@cells
def test_it_remembers_across_episodes(cell):
    """Episodes of one pull: what the other arm pays is known from the episode before alone."""
    found = trained_on_bandits([[1.0, 0.0], [0.0, 1.0]], 1, cell, 2, 30)
    assert found[0] == pytest.approx(0.5, abs=0.25)
    assert min(found[1:]) > 0.98


@pytest.mark.slow
def test_one_episode_shows_it_the_goal():
    """2-D navigation on goals it never met: the second episode is within a tenth of the way from
    standing still, the best without a clue, to walking straight there."""
    config = AgentConfig(
        name="rl2",
        inner=TrialConfig("gru", 32, steps=1),
        outer=TrialPpoConfig(lr=5e-3, epochs=4, entropy=0.0),
        policy=PolicyConfig((32,), "tanh", init_std=0.5),
        advantages=AdvantageConfig(discount=0.95, gae_lambda=0.9),
    )
    distribution = PointGoal("point-goal", "", 20)
    agent = Rl2(distribution.spec, config, np.random.default_rng(0), CPU)
    env, rng = distribution.open(100, 2, Workers()), np.random.default_rng(1)

    def played(tasks, *key: int):
        return adaptation_rounds(agent, env, agent.spec, tasks, 2, 1, key, CPU)

    for index in range(110):
        state, rounds = played(distribution.sample(100, rng), 1, index)
        agent.meta_update(state, rounds[-1], rng)
    tasks = distribution.sample(100, rng, "test")
    _, rounds = played(tasks, 2)
    found = float((rounds[1].rewards * rounds[1].mask).sum(1).mean())
    away = np.abs([task["goal"] for task in tasks])  # [tasks, 2], along each coordinate
    left = np.stack([np.maximum(away - 0.1 * t, 0.0) for t in range(1, 21)])
    straight = -np.linalg.norm(left, axis=-1).sum(0).mean()
    still = -20.0 * np.linalg.norm(away, axis=-1).mean()
    assert found > straight - 0.1 * (straight - still)


def test_memories_that_cannot_be_stored():
    """Refuses them by name: a transformer's, and beliefs, computed once for an update."""
    asked = replace(agent_on("box", "transformer").config, outer=TrialPpoConfig(memory="stored"))
    with pytest.raises(UserError, match=r"memory stored: that of a transformer .*\n.* gru"):
        catalogue.check(asked)
    of_belief = catalogue.default("varibad")
    asked = replace(of_belief, outer=replace(of_belief.outer, memory="stored"))
    with pytest.raises(UserError, match=r"agent.outer.memory: beliefs are computed once"):
        catalogue.check(asked)
