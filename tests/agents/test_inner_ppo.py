"""The inner PPO: Stable-Baselines3's update, tasks side by side, ends of episodes, padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger

from metarl.agents.batch import learning_batch
from metarl.agents.inner.ppo import PpoSteps, PpoStepsConfig
from metarl.agents.inner.task_ppo import Samples, TaskPpo
from metarl.config.settings import AdvantageConfig, PolicyConfig
from metarl.equations.distributions import each
from metarl.equations.returns import standardize
from metarl.networks.mlp import MlpPolicy
from metarl.networks.value import MlpValue
from metarl.types import EnvSpec, Params, Trajectories

OBS, HORIZON = 3, 7
SPACES = {"box": Box(-9, 9, (2,)), "discrete": Discrete(3), "multidiscrete": MultiDiscrete([3, 2])}
kinds = pytest.mark.parametrize("kind", list(SPACES))


def rule_on(
    kind: str, advantages: AdvantageConfig | None = None, hidden: tuple[int, ...] = (8, 8), **config
) -> PpoSteps:
    spec = EnvSpec("problem", Box(-1, 1, (OBS,)), SPACES[kind], HORIZON)
    network = PolicyConfig(hidden=hidden, activation="tanh")
    policy, value = MlpPolicy(spec, network), MlpValue(spec, network)
    return PpoSteps(policy, value, PpoStepsConfig(**config), advantages or AdvantageConfig())


def initial(rule: PpoSteps) -> Params:
    rng = np.random.default_rng(0)
    params = {**rule.policy.init(rng), **rule.value.init(rng)}
    return {name: x.double() for name, x in params.items()}


def drawn(rule: PpoSteps, params: Params, tasks: int, steps: int = HORIZON) -> Trajectories:
    """Random observations and rewards, 6 episodes of each task, by the policy of `params`.

    Half of the short ones terminate, the others and the long ones are truncated.
    """
    g = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    obs, rewards = normal(tasks, steps, 6, OBS), normal(tasks, steps, 6)
    behaviour = rule.policy(params, obs)
    behaviour = each(lambda x: x.expand(*obs.shape[:3], -1), behaviour)
    actions = behaviour.sample(normal(tasks, steps, 6, rule.policy.noise_dim))
    lengths = torch.randint(2, steps + 1, (tasks, 1, 6), generator=g)
    time = torch.arange(steps)[:, None]
    last, dies = time == lengths - 1, (lengths < steps) & (torch.arange(6) % 2 == 0)
    solved_at = torch.zeros(tasks, 6, dtype=torch.int32)
    ends = (last & dies, last & ~dies, time < lengths)
    return Trajectories(obs, actions, rewards, *ends, normal(tasks, 6, OBS), solved_at, behaviour)


class Wandering(gym.Env):
    """Random observations and rewards; an episode terminates by chance or is truncated at HORIZON.

    It writes down what Stable-Baselines3 does not keep: rewards as they were, how episodes ended,
    and where.
    """

    observation_space = Box(-np.inf, np.inf, (OBS,), np.float32)

    def __init__(self, action_space: gym.Space, seed: int):
        self.action_space, self._rng = action_space, np.random.default_rng(seed)
        self.rewards: list[float] = []
        self.ends: list[tuple[bool, bool, np.ndarray]] = []

    def reset(self, *, seed: int | None = None, options: Any = None):
        self._steps = 0
        return self._rng.standard_normal(OBS).astype(np.float32), {}

    def step(self, action):
        self._steps += 1
        obs = self._rng.standard_normal(OBS).astype(np.float32)
        terminated = bool(self._rng.random() < 0.1)
        truncated = self._steps == HORIZON and not terminated
        self.rewards.append(float(self._rng.standard_normal()))
        self.ends.append((terminated, truncated, obs))
        return obs, self.rewards[-1], terminated, truncated, {}


NAMES = {"layer0": "mlp_extractor.policy_net.0", "layer1": "mlp_extractor.policy_net.2"}
NAMES |= {f"value.{name}": x.replace("policy", "value") for name, x in NAMES.items()}
NAMES |= {"layer2": "action_net", "value.layer2": "value_net"}
"""Our names of layers, and Stable-Baselines3's."""


def weights_of(model: PPO) -> Params:
    """Its policy's and its value function's parameters, by our names and without a task axis."""
    theirs = {name: x.detach().clone() for name, x in model.policy.named_parameters()}
    params = {
        f"{name}.{part}": theirs[f"{other}.{part}"]
        for name, other in NAMES.items()
        for part in ("weight", "bias")
    }
    return {**params, **({"log_std": theirs["log_std"]} if "log_std" in theirs else {})}


def stream_of_episodes(model: PPO, envs: Sequence[Wandering], rule: PpoSteps) -> Trajectories:
    """Its buffer as whole episodes, [1, HORIZON, E]; an unfinished one is cut by a time limit."""
    buffer = model.rollout_buffer
    columns = []
    for e, env in enumerate(envs):
        start = 0
        for t, (terminated, truncated, final) in enumerate(env.ends):
            if terminated or truncated or t == len(env.ends) - 1:
                columns.append((e, slice(start, t + 1), terminated, final))
                start = t + 1
    E = len(columns)
    obs, actions = torch.zeros(HORIZON, E, OBS), torch.zeros(HORIZON, E, buffer.action_dim)
    rewards, (terminated, truncated, mask) = torch.zeros(HORIZON, E), torch.zeros(3, HORIZON, E) > 0
    for column, (e, rows, dies, _) in enumerate(columns):
        n = rows.stop - rows.start
        obs[:n, column] = torch.from_numpy(buffer.observations[rows, e])
        actions[:n, column] = torch.from_numpy(buffer.actions[rows, e])
        rewards[:n, column] = torch.tensor(envs[e].rewards[rows])
        terminated[n - 1, column], truncated[n - 1, column] = dies, not dies
        mask[:n, column] = True
    final_obs = torch.from_numpy(np.stack([final for *_, final in columns]))
    if not isinstance(model.action_space, Box):
        actions = actions.long()
    behaviour = rule.policy(weights_of(model), obs)
    solved_at = torch.zeros(E, dtype=torch.int32)
    parts = (obs, actions, rewards, terminated, truncated, mask, final_obs, solved_at)
    return Trajectories._make([*(x[None] for x in parts), each(lambda x: x[None], behaviour)])


def in_their_order(model: PPO, envs: Sequence[Wandering], values: torch.Tensor) -> np.ndarray:
    """Values [1, HORIZON * E] of whole episodes as a buffer has them, [n_steps, n_envs]."""
    columns = values.view(HORIZON, -1)
    found, column = np.zeros_like(model.rollout_buffer.rewards), 0
    for e, env in enumerate(envs):
        start = 0
        for t, (terminated, truncated, _) in enumerate(env.ends):
            if terminated or truncated or t == len(env.ends) - 1:
                found[start : t + 1, e] = columns[: t + 1 - start, column].numpy()
                start, column = t + 1, column + 1
    return found


@kinds
def test_a_round_is_stable_baselines3s(kind):
    """Its own collection and its own `train` of 12 epochs: advantages, targets, all parameters.

    Two settings are ours: one minibatch, whose order does not matter, and advantages
    standardised over the whole buffer before it begins.
    """
    envs = [Wandering(SPACES[kind], seed) for seed in range(3)]
    model = PPO(
        "MlpPolicy",
        gym_vector(envs),
        learning_rate=0.01,
        n_steps=40,
        batch_size=120,
        n_epochs=12,
        gamma=0.9,
        gae_lambda=0.8,
        clip_range=0.1,
        normalize_advantage=False,
        ent_coef=0.03,
        vf_coef=0.7,
        max_grad_norm=0.4,
        policy_kwargs={"net_arch": [8, 8]},
        seed=0,
        device="cpu",
    )
    logger = Logger(None, [])
    model.set_logger(logger)
    _, callback = model._setup_learn(120)
    assert model.env is not None
    assert model.collect_rollouts(model.env, callback, model.rollout_buffer, 40)

    rule = rule_on(
        kind,
        AdvantageConfig(discount=0.9, gae_lambda=0.8),
        lr=0.01,
        epochs=12,
        minibatches=1,
        clip=0.1,
        entropy=0.03,
        value_weight=0.7,
        max_grad_norm=0.4,
    )
    params, buffer = weights_of(model), model.rollout_buffer
    episodes = stream_of_episodes(model, envs, rule)
    assert episodes.terminated.sum() > 3
    assert episodes.truncated.sum() > 3
    samples = rule.samples(params, episodes)

    def same(found: np.ndarray, expected: np.ndarray) -> None:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    same(in_their_order(model, envs, samples.targets), buffer.returns)
    same(in_their_order(model, envs, samples.log_probs), buffer.log_probs)
    standard = (buffer.advantages - buffer.advantages.mean()) / buffer.advantages.std()
    same(in_their_order(model, envs, samples.advantages), standard)

    buffer.advantages = standard
    model.train()
    after, course, finite = rule.step(rule.start(params), samples)
    for name, x in weights_of(model).items():
        assert not torch.equal(x, params[name])
        torch.testing.assert_close(after.params[name][0], x, rtol=1e-3, atol=2e-5)
    logged = logger.name_to_value
    assert finite.all()
    assert float(course.value_loss) == pytest.approx(logged["train/value_loss"], rel=1e-4)
    assert float(course.clip_fraction) == pytest.approx(logged["train/clip_fraction"], abs=1e-3)
    assert float(course.clip_fraction) > 0.1


def gym_vector(envs: Sequence[Wandering]) -> Any:
    from stable_baselines3.common.vec_env import DummyVecEnv

    return DummyVecEnv([lambda env=env: env for env in envs])


def task(k: int, episodes: Trajectories) -> Trajectories:
    """Returns the episodes of task k alone."""
    *parts, behaviour = episodes
    own = [x[k : k + 1] for x in parts]
    return Trajectories._make([*own, each(lambda x: x[k : k + 1], behaviour)])


def after_two_rounds(rule: PpoSteps, learners: TaskPpo, episodes: Trajectories) -> TaskPpo:
    """Returns the state after two rounds on the same episodes."""
    for _ in range(2):
        learners, _, _ = rule.step(learners, rule.samples(learners.params, episodes))
    return learners


@kinds
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_tasks_side_by_side_are_tasks_alone(kind, optimizer):
    """Two rounds, the second with the first one's moments."""
    rule = rule_on(kind, lr=0.05, entropy=0.1, optimizer=optimizer)
    start = rule.start(initial(rule))
    episodes = drawn(rule, start.params, tasks=3)
    together = after_two_rounds(rule, start, episodes)
    assert together.rounds == 2
    assert float(together.moments.count) == (2 * 5 * 4 if optimizer == "adam" else 0)
    for k in range(3):
        alone = after_two_rounds(rule, start, task(k, episodes))
        for name, x in alone.params.items():
            torch.testing.assert_close(together.params[name][k], x[0], rtol=1e-6, atol=1e-6)
            assert (x[0] - start.params[name]).abs().max() > 1e-3


@kinds
def test_tasks_that_stop_at_their_target_are_tasks_alone(kind):
    """Each stops where it alone would, also in a second round, with its own count of Adam's."""
    rule = rule_on(kind, lr=0.01, target_kl=0.03)
    start = rule.start(initial(rule))
    episodes = drawn(rule, start.params, tasks=3)
    together, steps = start, []
    for _ in range(2):
        samples = rule.samples(together.params, episodes)
        together, course, _ = rule.step(together, samples)
        steps.append(course.steps)
    total = torch.stack(steps).sum(0)
    assert len(set(total.tolist())) > 1
    assert total.max() < 2 * 5 * 4
    assert together.moments.count.tolist() == total.tolist()
    for k in range(3):
        alone = after_two_rounds(rule, start, task(k, episodes))
        for name, x in alone.params.items():
            torch.testing.assert_close(together.params[name][k], x[0], rtol=1e-6, atol=1e-6)


def test_a_task_steps_until_a_minibatch_finds_it_far():
    """KL: E[r - 1 - log r] over all samples, of which the only minibatch consists."""
    settings = {"lr": 0.02, "minibatches": 1}
    rule = rule_on("box", epochs=20, **settings)
    start = rule.start(initial(rule))
    samples = rule.samples(start.params, drawn(rule, start.params, tasks=1))
    kls = []
    for epochs in range(1, 6):
        after, _, _ = rule_on("box", epochs=epochs, **settings).step(start, samples)
        log_probs = rule.policy(after.params, samples.obs).log_probs(samples.actions)
        ratio = (log_probs - samples.log_probs).exp()
        kls.append(float((samples.weights * (ratio - 1 - ratio.log())).sum()))
    assert kls == sorted(kls)
    stopping = rule_on("box", epochs=20, target_kl=kls[3] * 0.999, **settings)
    after, course, _ = stopping.step(start, samples)
    assert course.steps.tolist() == [4.0]
    expected, _, _ = rule_on("box", epochs=4, **settings).step(start, samples)
    torch.testing.assert_close(after.params, expected.params)


def test_an_epochs_minibatches_are_the_whole_round():
    """Tiny steps on 3 minibatches add up to 3 on all of the samples."""
    moves = []
    for minibatches in (1, 3):
        rule = rule_on(
            "box",
            lr=1e-7,
            epochs=2,
            minibatches=minibatches,
            optimizer="sgd",
            max_grad_norm=1e9,
        )
        start = rule.start(initial(rule))
        samples = rule.samples(start.params, drawn(rule, start.params, tasks=2))
        after, _, _ = rule.step(start, samples)
        moves.append({name: x - start.params[name] for name, x in after.params.items()})
    for name, x in moves[0].items():
        torch.testing.assert_close(moves[1][name], 3.0 * x, rtol=1e-4, atol=1e-12)


@kinds
def test_padding_changes_nothing(kind):
    """Neither what stands in it, to the bit, nor how much of it there is."""
    rule = rule_on(kind, lr=0.05, minibatches=1)
    start = rule.start(initial(rule))
    clean = drawn(rule, start.params, tasks=3)
    nowhere = torch.tensor(float("nan"), dtype=torch.float64)
    dirty = clean._replace(
        obs=torch.where(clean.mask[..., None], clean.obs, 50.0),
        rewards=torch.where(clean.mask, clean.rewards, nowhere),
    )

    def longer(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, torch.zeros_like(x[:, :2])], 1)

    timed = {
        name: longer(x) for name, x in clean._asdict().items() if name in Trajectories._fields[:6]
    }
    more = clean._replace(**timed)
    more = more._replace(behaviour=rule.policy(start.params, more.obs))
    found = [
        rule.step(start, rule.samples(start.params, x))[0].params for x in (clean, dirty, more)
    ]
    for name, x in found[0].items():
        torch.testing.assert_close(found[1][name], x, rtol=0, atol=1e-12)
        torch.testing.assert_close(found[2][name], x, rtol=0, atol=1e-9)


def single(
    rule: PpoSteps, params: Params, rewards: torch.Tensor, dies: torch.Tensor, actions: torch.Tensor
):
    """Whole episodes [1, T, E] in the only state there is; `dies` [E] or truncated at their end."""
    steps, episodes = rewards.shape
    last = torch.zeros(1, steps, episodes, dtype=torch.bool)
    last[:, -1] = True
    obs = torch.ones(1, steps, episodes, OBS, dtype=torch.float64)
    return Trajectories(
        obs,
        actions,
        rewards[None].double(),
        last & dies,
        last & ~dies,
        torch.ones_like(last),
        obs[:, 0],
        torch.zeros(1, episodes, dtype=torch.int32),
        rule.policy(params, obs),
    )


def test_reward_forever_is_worth_one_over_one_minus_the_discount():
    """Rewards of one, cut after 4 steps by a time limit: V = 10 at a discount of 0.9. Without the
    value beyond the limit no state would be worth more than 3.44. Where death cuts it, that is
    right: 1, 1.9, 2.71 and 3.44 of the four states, which look alike, 2.26 in the mean."""
    rule = rule_on("discrete", AdvantageConfig(0.9, 1.0), lr=0.02, minibatches=1, epochs=10)
    for dies, expected in ((False, 10.0), (True, 2.2625)):
        learners = rule.start(initial(rule))
        for _ in range(40):
            episodes = single(
                rule,
                learners.params,
                torch.ones(4, 2),
                torch.tensor([dies, dies]),
                torch.zeros(1, 4, 2, 1, dtype=torch.long),
            )
            learners, _, _ = rule.step(learners, rule.samples(learners.params, episodes))
        value = rule.value(learners.params, episodes.obs)
        torch.testing.assert_close(value.mean(), torch.tensor(expected).double(), rtol=0.02, atol=0)


def test_only_who_bootstraps_at_the_time_limit_alone_goes_on_living():
    """Action 0 earns 1 and lives on, action 1 earns 2 and dies; episodes are cut after one step.

    Living on is worth 10. Whoever takes the limit for a death prefers 2 to 1, and whoever takes
    death for a limit prefers 2 + 0.9 V to 1 + 0.9 V.
    """
    rule = rule_on("discrete", AdvantageConfig(0.9, 0.95), lr=0.01, entropy=0.02)
    learners, g = rule.start(initial(rule)), torch.Generator().manual_seed(0)

    def chances() -> torch.Tensor:
        obs = torch.ones(1, 1, 1, OBS, dtype=torch.float64)
        return rule.policy(learners.params, obs)[0].squeeze().softmax(-1)

    for _ in range(60):
        actions = torch.multinomial(chances(), 64, replacement=True, generator=g)
        dies = actions > 0  # the third action is as the second
        rewards = torch.where(dies, 2.0, 1.0)[None]
        episodes = single(rule, learners.params, rewards, dies, actions.view(1, 1, -1, 1))
        learners, _, _ = rule.step(learners, rule.samples(learners.params, episodes))
    assert chances()[0] > 0.95


def test_each_task_finds_the_better_arm_of_its_bandit():
    """Three arms, one pull an episode; tasks k pays 1 for arm k alone."""
    rule = rule_on("discrete", lr=0.02, epochs=10)
    learners = rule.start(initial(rule))
    g = torch.Generator().manual_seed(0)
    obs = torch.ones(3, 1, 40, OBS, dtype=torch.float64)
    last = torch.ones(3, 1, 40, dtype=torch.bool)
    for _ in range(6):
        policy = rule.policy(learners.params, obs)
        gumbel = -torch.empty(3, 1, 40, 3).exponential_(generator=g).log()
        actions = policy.sample(gumbel)
        rewards = (actions[..., 0] == torch.arange(3).view(3, 1, 1)).double()
        solved_at = torch.zeros(3, 40, dtype=torch.int32)
        episodes = Trajectories(
            obs, actions, rewards, last, ~last, last, obs[:, 0], solved_at, policy
        )
        learners, _, _ = rule.step(learners, rule.samples(learners.params, episodes))
    chances = rule.policy(learners.params, obs)[0][:, 0, 0].softmax(-1)
    assert (chances.diagonal() > 0.95).all()


def test_a_task_whose_update_is_not_finite_keeps_what_it_had():
    rule = rule_on("box", lr=0.05)
    start = rule.start(initial(rule))
    samples = rule.samples(start.params, drawn(rule, start.params, tasks=3))
    well, _, _ = rule.step(start, samples)
    targets = samples.targets.clone()
    targets[1, samples.weights[1].argmax()] = float("inf")
    after, _, finite = rule.step(start, samples._replace(targets=targets))
    assert finite.tolist() == [True, False, True]
    for name, x in after.params.items():
        assert torch.equal(x[1], start.params[name])
        assert torch.equal(x[::2], well.params[name][::2])
        assert (after.moments.square[name][1] == 0).all()


def test_no_minibatch_is_empty_and_advantages_are_standard():
    """A round of fewer samples than minibatches; advantages are standardised."""
    rule = rule_on("box", minibatches=64, lr=0.05)
    start = rule.start(initial(rule))
    samples: Samples = rule.samples(start.params, drawn(rule, start.params, tasks=2, steps=3))
    torch.testing.assert_close(
        samples.advantages, standardize(samples.advantages, samples.weights), rtol=1e-6, atol=1e-7
    )
    after, _, finite = rule.step(start, samples)
    assert finite.all()
    assert float(after.moments.count) == 5 * 18


def test_the_linear_baselines_advantages_are_those_of_the_maml_family():
    rule = rule_on("box", AdvantageConfig(discount=0.9, gae_lambda=0.8), baseline="linear")
    episodes = drawn(rule, initial(rule), tasks=3)
    samples = rule.samples(initial(rule), episodes)
    batch = learning_batch(episodes, rule.advantages)
    torch.testing.assert_close(samples.advantages, batch.advantages)
    assert torch.equal(samples.weights, batch.weights)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_with_the_linear_baseline_the_value_function_stays_as_it_is(optimizer):
    rule = rule_on("box", baseline="linear", optimizer=optimizer, lr=0.01)
    before = initial(rule)
    samples = rule.samples(before, drawn(rule, before, tasks=3))
    after = rule.step(rule.start(before), samples)[0].params
    values = set(rule.value.init(np.random.default_rng(0)))
    for name, x in before.items():
        moved = not torch.equal(after[name], x.expand_as(after[name]))
        assert moved != (name in values), name
