"""Recurrent SAC: trials in the replay, losses and gradients by other routes, refusals, resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from box_probes import BoxProbe, BoxProbeEnv
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import Tensor
from whole_runs import rows, weights

from metarl import memory
from metarl.acting.units import Units
from metarl.agents import catalogue
from metarl.agents.outer.sac import is_encoder
from metarl.agents.outer.sac_batches import Batch, Draws
from metarl.agents.rl2_sac import Rl2Sac
from metarl.config.settings import Config
from metarl.errors import UserError
from metarl.experiments.presets import preset
from metarl.loop import training
from metarl.memory import Found
from metarl.parallel import in_parts
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import EnvSpec, Trajectories, Workers

CPU = torch.device("cpu")
TASKS, STEPS, EPISODES, OBS = 2, 4, 3, 2
SPACES = {"box": Box(np.array([-1, 2], "f4"), np.array([3, 6], "f4")), "discrete": Discrete(3)}

spaces = pytest.mark.parametrize("space", list(SPACES))


def agent_on(space: str | Any, steps: int = 1, seed: int = 0, **outer: Any) -> Rl2Sac:
    acted = SPACES[space] if isinstance(space, str) else space
    spec = EnvSpec("problem", Box(-1, 1, (OBS,)), acted, STEPS)
    config = catalogue.default("rl2-sac")
    small = {"batch": 5, "replay": 60, "updates_per_step": 1e-9, "lr": 1e-2}
    config = replace(
        config,
        inner=replace(config.inner, size=6, embedding=5, steps=steps),
        outer=replace(config.outer, **{**small, **outer}),
        policy=replace(config.policy, hidden=(7,)),
        normalisation=replace(config.normalisation, observations=True),
    )
    return catalogue.build(spec, config, np.random.default_rng(seed), CPU)


def episodes(agent: Rl2Sac, seed: int, terminates: bool = True) -> Trajectories:
    """A round of episodes of unequal lengths, with numbers of their own."""
    g = torch.Generator().manual_seed(seed)
    shape = (TASKS, STEPS, EPISODES)
    lengths = torch.randint(1, STEPS + 1, (TASKS, 1, EPISODES), generator=g)
    t = torch.arange(STEPS)[None, :, None]
    mask, last = t < lengths, t == lengths - 1
    ends = (torch.rand(shape, generator=g) < 0.5) & last if terminates else last & False
    noise = torch.randn(*shape, agent.policy.noise_dim, generator=g)
    width = agent.policy.noise_dim * (1 if agent.policy.choices else 2)
    behaviour = agent.policy.distribution(torch.randn(*shape, width, generator=g))
    return Trajectories(
        torch.randn(*shape, OBS, generator=g) * mask[..., None],
        behaviour.sample(noise) * mask[..., None],
        torch.randn(shape, generator=g) * mask,
        ends,
        last & ~ends,
        mask,
        torch.randn(TASKS, EPISODES, OBS, generator=g),
        torch.zeros(TASKS, EPISODES, dtype=torch.int32),
        behaviour,
    )


def updated(agent: Rl2Sac, seed: int = 0) -> dict[str, float]:
    first, last = episodes(agent, seed), episodes(agent, seed + 1)
    return agent.meta_update(agent.adapt(agent.begin(), first), last, np.random.default_rng(seed))


@spaces
@pytest.mark.parametrize("end", ["truncation", "termination"])
def test_a_trial_is_kept_step_after_step(space, end):
    """By a loop over the episodes: no gaps, the ends of all but the last, and what follows."""
    agent = agent_on(space, end=end)
    rounds = (episodes(agent, 1), episodes(agent, 2))
    found = agent.recorded(rounds)
    for k in range(TASKS):
        for e in range(EPISODES):
            kept = {name: x[k * EPISODES + e] for name, x in found.items()}
            at = 0
            for number, played in enumerate(rounds):
                length = int(played.mask[k, :, e].sum())
                for t in range(length):
                    torch.testing.assert_close(kept["obs"][at], played.obs[k, t, e])
                    action = agent.policy.encoded(played.actions[k, t, e])
                    torch.testing.assert_close(kept["actions"][at], action)
                    assert kept["rewards"][at] == played.rewards[k, t, e]
                    assert kept["ended"][at] == float(number == 0 and t == length - 1)
                    at += 1
            assert kept["mask"].sum() == at
            assert kept["mask"][:at].all()
            torch.testing.assert_close(kept["obs"][at], rounds[-1].final_obs[k, e])
            over = bool(rounds[-1].terminated[k, :, e].any()) or end == "termination"
            assert kept["terminated"].nonzero().flatten().tolist() == [at - 1] * over
            assert not kept["actions"][at:].any()


def drawn(agent: Rl2Sac, seed: int = 0) -> tuple[Batch, Draws]:
    """A batch and draws in float64, after two updates."""
    updated(agent, 0)
    updated(agent, 10)
    rng = np.random.default_rng(seed)
    batch = agent.drawn(rng)
    draws = agent.outer.draws(batch, rng)
    return Batch(*(x.double() for x in batch)), draws._replace(noise=draws.noise.double())


def double(agent: Rl2Sac) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and targets, a little apart from each other, in float64."""
    g = torch.Generator().manual_seed(5)

    def near(params: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            n: x.double() + 0.1 * torch.randn(x.shape, generator=g).double()
            for n, x in params.items()
        }

    return near(agent.meta), near(agent.outer_state.targets)


def memory_by_steps(params: dict[str, Tensor], prefix: str, inputs: Tensor) -> Tensor:
    """A GRU as in arXiv:1406.1078, one step of one trial at a time."""
    x = (inputs @ params[f"{prefix}embed0.weight"].T + params[f"{prefix}embed0.bias"]).relu()
    w, u = (params[f"{prefix}cell.weight_{part}"] for part in ("ih", "hh"))
    b, c = (params[f"{prefix}cell.bias_{part}"] for part in ("ih", "hh"))
    h, found = torch.zeros(u.shape[1], dtype=x.dtype), []
    for step in x:
        r, z, n = (w @ step + b).chunk(3)
        hr, hz, hn = (u @ h + c).chunk(3)
        r, z = (r + hr).sigmoid(), (z + hz).sigmoid()
        n = (n + r * hn).tanh()
        h = n + z * (h - n)
        found.append(h)
    return torch.stack(found)


def layers(params: dict[str, Tensor], prefix: str, x: Tensor, critic: int | None = None) -> Tensor:
    """An MLP of one hidden layer; of one `critic` of an ensemble."""
    for i in range(2):
        w, b = (params[f"{prefix}layer{i}.{part}"] for part in ("weight", "bias"))
        if critic is not None:
            w, b = w[critic], b[critic]
        x = w @ x + b
        x = x.relu() if i == 0 else x
    return x


@spaces
@pytest.mark.parametrize("subset", [0, 1])
def test_the_losses_are_those_written_out_step_by_step(space, subset):
    agent = agent_on(space, critics=3, subset=subset)
    batch, draws = drawn(agent)
    params, targets = double(agent)
    _, reading = agent.outer.loss(params, targets, batch, draws)
    alpha, gamma = params["log_temperature"].exp(), agent.config.advantages.discount

    def q_of(of: dict[str, Tensor], n: int, t: int, h: Tensor, action: Tensor, c: int) -> Tensor:
        read = batch.obs[n, t] if agent.policy.choices else torch.cat([batch.obs[n, t], action])
        now = (of["critic.now0.weight"] @ read + of["critic.now0.bias"]).relu()
        return layers(of, "critic.", torch.cat([h, now]), c)

    def value(of: dict[str, Tensor], n: int, t: int, h: Tensor, critics: Any, least: bool) -> Any:
        now = params["actor.now0.weight"] @ batch.obs[n, t] + params["actor.now0.bias"]
        head = layers(params, "actor.", torch.cat([own[t], now.relu()]))
        if agent.policy.choices:
            probs = head.softmax(-1)
            q = torch.stack([q_of(of, n, t, h, head, c) for c in critics])
            q = q.min(0).values if least else q.mean(0)
            return (probs * (q - alpha * probs.log())).sum(), -(probs * probs.log()).sum()
        mean, log_std = head.chunk(2)
        u = mean + log_std.clamp(max=2.0).exp() * draws.noise[n, t]
        log_prob = torch.distributions.Normal(mean, log_std.exp()).log_prob(u).sum()
        log_prob = log_prob - (1 - u.tanh().square()).log().sum()
        q = torch.cat([q_of(of, n, t, h, u.tanh(), c) for c in critics])
        return (q.min() if least else q.mean()) - alpha * log_prob, -log_prob

    critic_loss, actor_loss, entropy = 0.0, 0.0, 0.0
    for n in range(len(batch.obs)):
        own = memory_by_steps(params, "actor.", batch.inputs[n])
        fast = memory_by_steps(params, "critic.", batch.inputs[n])
        slow = memory_by_steps(targets, "critic.", batch.inputs[n])
        for t in range(batch.rewards.shape[1] - 1):
            weight = batch.weights[n, t]
            if not weight:
                continue
            beyond, _ = value(targets, n, t + 1, slow[t + 1], draws.chosen.tolist(), True)
            goal = batch.rewards[n, t] + gamma * batch.continues[n, t] * beyond
            for c in range(3):
                q = q_of(params, n, t, fast[t], batch.actions[n, t], c)
                q = q[batch.actions[n, t].argmax()] if agent.policy.choices else q
                critic_loss = critic_loss + weight * (q - goal) ** 2
            soft, surprise = value(params, n, t, fast[t], range(3), not subset)
            actor_loss, entropy = actor_loss - weight * soft, entropy + weight * surprise
    torch.testing.assert_close(reading.critic_loss, torch.as_tensor(critic_loss).squeeze())
    torch.testing.assert_close(reading.actor_loss, torch.as_tensor(actor_loss).squeeze())
    torch.testing.assert_close(reading.entropy, torch.as_tensor(entropy).squeeze())


@spaces
def test_each_network_has_the_gradient_of_its_own_loss(space):
    """Finite differences of the critics' loss in the critics, and of the actor's in the actor."""
    agent = agent_on(space)
    batch, draws = drawn(agent)
    params, targets = double(agent)
    gradient, _ = agent.outer.gradient(params, targets, batch, draws)
    rng = np.random.default_rng(0)
    for name, x in params.items():
        if name == "log_temperature":
            continue
        part = "critic_loss" if name.startswith("critic.") else "actor_loss"
        index, eps = tuple(rng.integers(n) for n in x.shape), 1e-6

        def loss(change: float, name=name, index=index, part=part) -> float:
            moved = params[name].clone()
            moved[index] += change
            _, found = agent.outer.loss({**params, name: moved}, targets, batch, draws)
            return float(getattr(found, part))

        slope = (loss(eps) - loss(-eps)) / (2 * eps)
        assert float(gradient[name][index]) == pytest.approx(slope, rel=1e-4, abs=1e-7), name


def test_the_temperature_is_learned_or_stays():
    still = agent_on("box", learn_temperature=False, temperature=0.3)
    updated(still)
    assert float(still.meta["log_temperature"].exp()) == pytest.approx(0.3)
    moving = agent_on("box", temperature=0.3)
    updated(moving)
    assert float(moving.meta["log_temperature"].exp()) < 0.3  # a new policy's entropy is high


def test_encoders_have_a_step_size_of_their_own():
    agent = agent_on("box", lr=1e-2, encoder_lr=1e-6)
    before = agent.meta
    updated(agent)
    for name, x in agent.meta.items():
        moved = float((x - before[name]).abs().max())
        assert moved <= 1.2e-6 if is_encoder(name) else 1e-3 < moved < 1.01e-2, name
    assert {n for n in before if is_encoder(n)} == {
        n for n in before if "embed" in n or "cell" in n
    }


def test_targets_move_a_share_of_the_way():
    agent = agent_on("box", polyak=0.25)
    before = agent.outer_state.targets
    updated(agent)
    for name, x in agent.outer_state.targets.items():
        torch.testing.assert_close(x, before[name].lerp(agent.meta[name], 0.25))


@spaces
def test_parts_of_trials_are_windows_with_what_came_before(space):
    agent = agent_on(space, steps=2, length=5, batch=64)
    rounds = [episodes(agent, n) for n in range(3)]
    state = agent.begin()
    for one in rounds[:-1]:
        state = agent.adapt(state, one)
    agent.meta_update(state, rounds[-1], np.random.default_rng(0))
    whole = agent.recorded(tuple(rounds))
    batch = agent.drawn(np.random.default_rng(1))
    assert batch.obs.shape[1] == 6
    assert float(batch.weights.sum()) == pytest.approx(1.0)
    assert not batch.weights[:, -1].any()
    starts = set()
    for n in range(64):
        places = [
            (row, start)
            for row in range(len(whole["obs"]))
            for start in range(whole["obs"].shape[1] - 5)
            if torch.equal(whole["rewards"][row, start : start + 6], batch.rewards[n])
            and torch.equal(whole["actions"][row, start : start + 6], batch.actions[n])
        ]
        assert places
        row, start = places[0]
        starts.add(start)
        before = batch.inputs[n, 0, OBS:]
        if start == 0:
            assert not before.any()
        else:
            torch.testing.assert_close(
                before[: agent.policy.noise_dim], whole["actions"][row, start - 1]
            )
            assert before[-1] == whole["ended"][row, start - 1]
    assert len(starts) > 2


@spaces
def test_the_policy_in_numpy_is_the_one_in_torch(space):
    """Actions and distributions over several steps of a later episode, also while actions are
    random."""
    for random in (0, 100):
        agent = agent_on(space, random_trials=random)
        updated(agent)
        support = episodes(agent, 3)
        state = agent.adapt(agent.begin(), support)
        units = Units.all(TASKS, EPISODES).groups()
        ready = agent.acting(state).of(units).ready(units)
        actor, rng, rewards = agent.actor(state, slice(0, EPISODES)), np.random.default_rng(2), None
        grid = (len(units), units.size)
        for _ in range(4):
            obs, noise, paid = (
                rng.standard_normal((TASKS, EPISODES, *n)).astype(np.float32)
                for n in ((OBS,), (agent.policy.noise_dim,), ())
            )
            told = np.zeros(grid, np.float32) if rewards is None else rewards.reshape(grid)
            actions, outputs = ready(obs.reshape(*grid, -1), told, noise.reshape(*grid, -1))
            given = None if rewards is None else torch.from_numpy(rewards)
            expected, shown = actor(torch.from_numpy(obs), given, torch.from_numpy(noise))
            found = torch.from_numpy(actions).reshape(expected.shape)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5, check_dtype=False)
            outputs = torch.from_numpy(outputs.copy()).reshape(TASKS, 1, EPISODES, -1)
            for ours, theirs in zip(agent.behaviour(state, outputs), shown, strict=True):
                torch.testing.assert_close(ours[:, 0], theirs, rtol=0, atol=1e-5)
            rewards = paid


@spaces
def test_adapting_is_acting_on(space):
    """The memory after an episode is that of the actor that played it."""
    agent = agent_on(space)
    updated(agent)
    support = episodes(agent, 4)
    after = agent.adapt(agent.begin(), support).pasts[-1]
    actor: Any = agent.actor(agent.begin(), slice(0, EPISODES))
    rewards: Any = None
    for t in range(STEPS):
        actor._action = support.actions[:, t - 1]  # the actions that were played
        actor(support.obs[:, t], rewards, torch.zeros(TASKS, EPISODES, agent.policy.noise_dim))
        rewards = support.rewards[:, t]
        ending = support.mask[:, t].clone()
        if t + 1 < STEPS:
            ending &= ~support.mask[:, t + 1]
        torch.testing.assert_close(actor._memory[0][ending], after.memory[0][ending])
    assert after.before[..., -1].eq(1).all()


def test_random_actions_fill_the_box_and_nothing_is_learned_from_them_yet():
    agent = agent_on("box", random_trials=TASKS * EPISODES + 1)
    params = agent.acting_params()
    noise = torch.randn(20_000, 1, 2, generator=torch.Generator().manual_seed(0))
    outputs = agent.policy.outputs(params, torch.zeros(1, 1, OBS), torch.zeros(1, 1, 6))
    actions = agent.policy.distribution(outputs).sample(noise)
    counts = torch.histc(agent.policy.kind.in_units(actions)[..., 0], 20, -1, 1)[1:-1] / 1000
    assert ((counts > 0.82) & (counts < 1.28)).all()
    before = agent.meta
    assert updated(agent)["updates"] == 0.0
    assert agent.meta is before
    assert updated(agent, 7)["updates"] == 1.0  # more trials than that
    assert agent.acting_params() is agent.meta
    assert len(agent.replay) == 2 * TASKS * EPISODES


def test_threads_change_no_bit():
    """The parts of a batch are the same for any number of threads."""
    found = []
    for threads in (1, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            agent = agent_on("box", steps=1, batch=300, critics=3)
            updated(agent)
            found.append(agent.state_dict())
        finally:
            torch.set_num_threads(before)
    assert all(torch.equal(x, found[1][name]) for name, x in found[0].items())
    assert found[0]["actor.layer0.weight"].any()


def test_numbers_that_are_not_finite_are_not_kept():
    agent = agent_on("box")
    last = episodes(agent, 1)
    last.rewards[1, 0, 1] = torch.inf
    state = agent.adapt(agent.begin(), episodes(agent, 0))
    assert agent.meta_update(state, last, np.random.default_rng(0)) == {"skipped": 1.0}
    assert len(agent.replay) == 0


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (Box(np.array([-1, 0], "f4"), np.array([1, np.inf], "f4")), r"dimension 1 of .* no bounds"),
        (MultiDiscrete([3, 2]), "not in MultiDiscrete"),
        (Discrete(3, start=1), "counted from 0"),
    ],
)
def test_spaces_that_it_cannot_act_in(space, said):
    with pytest.raises(UserError, match=said) as told:
        agent_on(space)
    assert "rl2" in str(told.value).splitlines()[-1]


@pytest.mark.parametrize(
    ("part", "settings", "said"),
    [
        ("outer", {"subset": 5}, r"subset is 5, and there are agent\.outer\.critics 2"),
        ("policy", {"std": "shared"}, r"no counterpart of agent\.policy\.std"),
        ("policy", {"context": 3}, r"no use of agent\.policy\.context"),
        ("advantages", {"gae_lambda": 0.5}, r"no counterpart of agent\.advantages\.gae_lambda"),
    ],
)
def test_settings_without_a_meaning(part, settings, said):
    config = catalogue.default("rl2-sac")
    config = replace(config, **{part: replace(getattr(config, part), **settings)})
    with pytest.raises(UserError, match=said):
        catalogue.check(config)


def small(run_dir: Path, iterations: int, **outer: Any) -> Config:
    config = preset("point-goal-rl2-sac")
    assert isinstance(config, Config)
    agent = config.agent
    few = {"batch": 4, "replay": 10, "random_trials": 5, "updates_per_step": 0.05}
    agent = replace(
        agent,
        inner=replace(agent.inner, size=5, embedding=5, steps=1),
        outer=replace(agent.outer, **{**few, **outer}),
        policy=replace(agent.policy, hidden=(6,)),
    )
    return replace(
        config, agent=agent, env=replace(config.env, horizon=5), iterations=iterations,
        sampling=replace(config.sampling, tasks=4, episodes=1), checkpoint_every=2, device="cpu",
        workers=0, run_dir=str(run_dir),
    )  # fmt: skip


def test_a_run_is_resumed_to_the_bit(tmp_path):
    """In the middle of random trials, and where the replay has forgotten the first ones."""
    training.train(small(tmp_path / "whole", 5), "x")
    for iterations in (1, 4, 5):
        training.train(replace(small(tmp_path / "parts", iterations), workers=1), "x")
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    assert weights(tmp_path / "whole", 5) == weights(tmp_path / "parts", 5)
    found = [(row["updates"], row["replay/trials"]) for row in rows(tmp_path / "whole")]
    assert found == [(0, 4), (2, 8), (2, 8), (2, 8), (2, 8)]


def test_a_replay_that_does_not_fit_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    asked = small(tmp_path / "run", 1, replay=1_000_000)
    monkeypatch.setattr(memory, "available", lambda: Found(1 << 20, "all"))
    with pytest.raises(UserError, match=r"335\.7 MiB .*1\.0 MiB \(all\)[\s\S]*--agent\.outer\.re"):
        training.train(asked, "x")  # 10^6 trials x 11 rows x (2 + 2 + 4) numbers x 4 bytes
    monkeypatch.undo()
    monkeypatch.setattr(memory.shutil, "disk_usage", lambda _: type("Free", (), {"free": 1 << 20}))
    with pytest.raises(UserError, match=r"671\.4 MiB on the disk of .*1\.0 MiB are free there"):
        training.train(asked, "x")
    monkeypatch.undo()
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="a replay of 3 trials cannot hold the 4 trials"):
        training.train(small(tmp_path / "run", 1, replay=3), "x")


class Sides(BoxProbeEnv):
    """Pays -(a - c)^2, c = +-0.5 by the task. One episode tells c, by any action but 0: a trial of
    two episodes costs 0.25 + 0 at best, and 0.5 without a memory."""

    seen = Box(0.0, 1.0, (2,))
    acted = Box(-1.0, 1.0, (1,))
    horizon = 1

    def pays(self, actions: np.ndarray) -> np.ndarray:
        return -((actions[..., 0] - np.where(self.number > 0.5, 0.5, -0.5)) ** 2)


@pytest.mark.slow
def test_a_continuous_task_is_identified():
    config = catalogue.default("rl2-sac")
    config = replace(
        config,
        inner=replace(config.inner, size=16, embedding=16),
        outer=replace(
            config.outer, lr=3e-3, batch=64, updates_per_step=0.25, temperature=0.05, polyak=0.02,
            entropy_per_dimension=-2.5, end="termination", random_trials=100,
        ),
        policy=replace(config.policy, hidden=(16,)),
    )  # fmt: skip
    probe = BoxProbe(Sides)
    agent = catalogue.build(probe.spec, config, np.random.default_rng(0), CPU)
    env, rng = probe.open(2, 20, Workers(0)), np.random.default_rng(1)
    with in_parts():
        for iteration in range(60):
            state, found = adaptation_rounds(
                agent, env, probe.spec, probe.sample(2, rng), 20, 1, (7, iteration), CPU
            )
            agent.meta_update(state, found[-1], rng)
    first, second = (float(one.rewards.mean()) for one in found)
    assert first + second > -0.4  # of sampled actions: exploring costs 0.1 in the first
    assert second > -0.05
