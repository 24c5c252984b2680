"""Stable-Baselines3's PPO as a control: what it learns is what `PPO.learn` learns."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from metarl.agents.catalogue import check, default
from metarl.agents.inner.ppo import PpoStepsConfig
from metarl.agents.sb3 import Sb3Ppo, rollout
from metarl.config.settings import NormalisationConfig, PolicyConfig
from metarl.device import torch_threads
from metarl.envs import catalogue
from metarl.envs.gym.parameters import Uniform
from metarl.envs.gym.task_vec_env import TaskVecEnv
from metarl.envs.gym.tasks import gym_tasks
from metarl.equations.gaussian import Gaussian
from metarl.errors import UnstableError, UserError
from metarl.sampling.collect import returns_of
from metarl.sampling.rounds import adaptation_rounds
from metarl.types import EnvSpec, TaskDistribution, Trajectories, Workers

CPU = torch.device("cpu")
SPACES = {"box": Box(-1, 1, (2,)), "discrete": Discrete(3), "multidiscrete": MultiDiscrete([3, 2])}
kinds = pytest.mark.parametrize("kind", list(SPACES))


def agent_for(spec: EnvSpec, seed: int = 0, **inner) -> Sb3Ppo:
    config = default("sb3-ppo")
    policy = replace(config.policy, hidden=(8, 7))
    inner = PpoStepsConfig(**{"lr": 1e-3, "epochs": 3, "minibatches": 4, **inner})
    config = replace(config, policy=policy, inner=inner)
    return Sb3Ppo(spec, config, np.random.default_rng(seed), CPU)


def agent_on(kind: str, seed: int = 0) -> Sb3Ppo:
    return agent_for(EnvSpec("problem", Box(-1, 1, (3,)), SPACES[kind], 6), seed)


def played(agent: Sb3Ppo, state, seed: int, K: int = 2, T: int = 6, E: int = 4) -> Trajectories:
    """Episodes of random rewards, of several lengths, ended in either way."""
    g = torch.Generator().manual_seed(seed)
    obs = torch.randn(K, T, E, 3, generator=g)
    noise = torch.randn(K, T, E, agent.noise[1], generator=g)
    distribution = agent.policy(state.params, obs)
    lengths = torch.randint(2, T + 1, (K, 1, E), generator=g)
    time = torch.arange(T).view(1, T, 1)
    mask, last = time < lengths, time == lengths - 1
    by_time = torch.rand(K, 1, E, generator=g) < 0.5
    return Trajectories(
        obs,
        distribution.sample(noise),
        torch.randn(K, T, E, generator=g) * mask,
        last & ~by_time,
        last & by_time,
        mask,
        torch.randn(K, E, 3, generator=g),
        torch.zeros(K, E, dtype=torch.int32),
        distribution,
    )


def numpy_draws() -> np.ndarray:
    """Returns the state of numpy's global generator."""
    state = np.random.get_state(legacy=False)  # noqa: NPY002
    assert isinstance(state, dict)
    return np.append(state["state"]["key"], state["state"]["pos"])


class Recorder(BaseCallback):
    """Records what a PPO met, before it adds anything to a reward."""

    def _init_callback(self):
        self.met = []

    def _on_step(self):
        found, info = self.locals, self.locals["infos"][0]
        obs = self.model._last_obs
        assert isinstance(obs, np.ndarray)
        end = (bool(found["dones"][0]), info["TimeLimit.truncated"])
        final = info.get("terminal_observation")
        actions = found["actions"].reshape(1, -1)
        self.met.append((obs[0], actions[0], float(found["rewards"][0]), *end, final))
        return True


def as_trajectories(met) -> Trajectories:
    """One task's whole episodes, side by side and padded."""
    ends = [n for n, step in enumerate(met) if step[3]]
    episodes = [met[a + 1 : b + 1] for a, b in zip([-1, *ends], ends, strict=False)]
    T, E = max(map(len, episodes)), len(episodes)
    obs, actions = (torch.zeros(1, T, E, len(met[0][i])) for i in (0, 1))
    rewards = torch.zeros(1, T, E)
    mask, terminated, truncated = (torch.zeros(1, T, E, dtype=torch.bool) for _ in range(3))
    final_obs = torch.zeros(1, E, obs.shape[-1])
    for e, episode in enumerate(episodes):
        for t, (seen, action, reward, done, by_time, final) in enumerate(episode):
            obs[0, t, e], actions[0, t, e] = torch.from_numpy(seen), torch.from_numpy(action)
            rewards[0, t, e], mask[0, t, e] = reward, True
            terminated[0, t, e], truncated[0, t, e] = done and not by_time, by_time
            if done:
                final_obs[0, e] = torch.from_numpy(final)
    solved, none = torch.zeros(1, E, dtype=torch.int32), torch.zeros(1, T, E, 1)
    return Trajectories(
        obs, actions, rewards, terminated, truncated, mask, final_obs, solved, Gaussian(none, none)
    )


def recorded(
    agent: Sb3Ppo, distribution: TaskDistribution, num_steps: int
) -> tuple[PPO, Trajectories]:
    """A PPO made by its constructor, with the agent's start, after it has filled its buffer."""
    task = distribution.sample(1, np.random.default_rng(0))[0]
    env = TaskVecEnv(distribution, task, seed=3)
    inner, config = agent.inner, agent.config
    ppo = PPO(
        "MlpPolicy",
        env,
        inner.lr,
        num_steps,
        int(np.ceil(num_steps / inner.minibatches)),
        inner.epochs,
        config.advantages.discount,
        config.advantages.gae_lambda,
        inner.clip,
        ent_coef=inner.entropy,
        vf_coef=inner.value_weight,
        max_grad_norm=inner.max_grad_norm,
        target_kl=inner.target_kl or None,
        policy_kwargs={"net_arch": list(config.policy.hidden)},
        seed=5,
        device="cpu",
    )
    ppo.policy.load_state_dict(agent.state_dict())
    ppo.set_logger(Logger(None, []))
    _, callback = ppo._setup_learn(num_steps, recorder := Recorder())
    ppo.collect_rollouts(env, callback, ppo.rollout_buffer, num_steps)
    return ppo, as_trajectories(recorder.met)


UNUSUAL: dict[str, Any] = {"clip": 0.02, "entropy": 0.1, "value_weight": 0.3, "max_grad_norm": 0.2,
    "target_kl": 1e-5,
}  # fmt: skip
"""None of them what PPO has by itself."""
POLES = {
    "discrete": gym_tasks("CartPole-v1", {"gravity": Uniform(5, 15)}, horizon=20),
    "box": gym_tasks("InvertedPendulum-v5", {"reset_noise_scale": Uniform(0.01, 0.1)}, horizon=5),
}


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("kind", list(POLES))
def test_an_adaptation_step_is_what_ppo_does_with_these_episodes(kind):
    """Its own buffer, filled by itself; then its own updates of it, to the bit."""
    distribution = POLES[kind]
    agent = agent_for(distribution.spec, **UNUSUAL)
    _, longer = recorded(agent, distribution, 80)
    whole = int(longer.mask.sum())  # the same episodes again, without the one that was cut
    ppo, support = recorded(agent, distribution, whole)
    assert support.terminated.any()
    assert support.truncated.any()
    assert not support.mask.all()
    assert int(support.mask.sum()) == whole
    ours, theirs = rollout(agent._ppo, support, 0), ppo.rollout_buffer
    for name in ("observations", "actions", "episode_starts"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    for name in ("rewards", "values", "log_probs", "advantages", "returns"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=2e-6)
    adapted = agent.adapt(agent.begin(), support)
    ppo.rollout_buffer = ours  # values of one call for all samples round otherwise
    np.random.seed(0)  # noqa: NPY002
    with torch_threads(1):  # as the agent does: another number of threads may round otherwise
        ppo.train()
    for name, x in ppo.policy.state_dict().items():
        assert torch.equal(adapted.snapshots[0].weights[name], x), name
        assert not torch.equal(agent.state_dict()[name], x), name


@kinds
def test_it_acts_by_the_policies_of_stable_baselines3(kind):
    """One batched call gives each task's distribution, before an update and after two."""
    agent = agent_on(kind)
    state = agent.begin()
    obs = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    noise = torch.zeros(2, 5, agent.noise[1])
    for step in range(3):
        for k in range(2):
            weights = state.snapshots[k].weights if state.snapshots else agent.meta
            agent._ppo.policy.load_state_dict(weights)
            theirs = agent._ppo.policy.get_distribution(obs[k])
            ours = agent.policy(state.params, obs)
            modes = ours.sample(noise)
            mode = modes[k].squeeze(-1) if kind == "discrete" else modes[k]
            torch.testing.assert_close(mode, theirs.mode())
            torch.testing.assert_close(ours.log_probs(modes)[k], theirs.log_prob(mode))
        actions, _ = agent.actor(state, slice(0, 5))(obs, None, noise)
        assert torch.equal(actions, modes)
        state = agent.adapt(state, played(agent, state, step))


@kinds
def test_adapting_changes_nothing_but_what_it_returns(kind):
    agent = agent_on(kind)
    before = deepcopy(agent.state_dict())
    draws = numpy_draws(), torch.get_rng_state()
    one = agent.adapt(agent.begin(), played(agent, agent.begin(), 0))
    kept, support = deepcopy(one), played(agent, one, 1)
    two, again = agent.adapt(one, support), agent.adapt(one, support)
    assert all(torch.equal(two.params[name], x) for name, x in again.params.items())
    assert all(not torch.equal(two.params[name], x) for name, x in one.params.items())
    for now, then in zip(one.snapshots, kept.snapshots, strict=True):
        assert all(torch.equal(now.weights[name], x) for name, x in then.weights.items())
        for index, moments in then.optimizer["state"].items():
            assert all(torch.equal(now.optimizer["state"][index][n], x) for n, x in moments.items())
    assert agent.meta_update(two, support, np.random.default_rng(0)) == {"skipped": 0.0}
    assert all(torch.equal(agent.state_dict()[name], x) for name, x in before.items())
    np.testing.assert_array_equal(numpy_draws(), draws[0])
    assert torch.equal(torch.get_rng_state(), draws[1])


def test_a_task_does_not_learn_from_another():
    """In whatever place, beside episodes of whatever lengths, it learns the same to the bit."""
    agent = agent_on("box")
    support, beside = (played(agent, agent.begin(), seed) for seed in (0, 1))
    assert int(beside.mask[0].sum()) != int(support.mask[0].sum())
    fields = support._asdict()
    for name in fields.keys() - {"behaviour"}:
        fields[name] = torch.stack([fields[name][1], getattr(beside, name)[0]])
    once, again = (agent.adapt(agent.begin(), x) for x in (support, Trajectories(**fields)))
    assert all(torch.equal(once.params[name][1], x[0]) for name, x in again.params.items())
    assert all(not torch.equal(once.params[name][0], x[1]) for name, x in again.params.items())


def test_padding_is_not_learned_from():
    agent = agent_on("box")
    clean = played(agent, agent.begin(), 0)
    nan = float("nan")
    dirty = clean._replace(
        obs=torch.where(clean.mask[..., None], clean.obs, nan),
        rewards=torch.where(clean.mask, clean.rewards, nan),
        final_obs=torch.where(clean.truncated.any(1)[..., None], clean.final_obs, nan),
    )
    once, again = (agent.adapt(agent.begin(), x).params for x in (clean, dirty))
    assert all(torch.equal(once[name], x) for name, x in again.items())


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_policy_that_is_lost_is_named_in_two_lines():
    agent = agent_on("box")
    support = played(agent, agent.begin(), 0)
    support = support._replace(rewards=support.rewards / 0.0)
    with pytest.raises(UnstableError, match="in round 1 of task 0") as lost:
        agent.adapt(agent.begin(), support)
    assert str(lost.value).count("\n") == 1


def test_it_learns_each_task():
    """Bandits, each with another arm that pays: two of ten pulls by chance, then most."""
    distribution = catalogue.make("bandit:5", 10)
    agent = agent_for(distribution.spec, lr=2e-2, epochs=10)
    tasks = [{"probabilities": row} for row in np.eye(5)[:3].tolist()]
    env = distribution.open(3, 10, Workers())
    _, rounds = adaptation_rounds(agent, env, distribution.spec, tasks, 10, 5, (1, 0), CPU)
    assert agent.steps == 1
    assert abs(float(returns_of(rounds[0]).mean()) - 2) < 1
    assert (returns_of(rounds[-1]).mean(1) > 5).all()


def test_initial_weights_come_from_the_generator_and_travel():
    agent, same, other = agent_on("box"), agent_on("box"), agent_on("box", seed=1)
    name = "mlp_extractor.policy_net.0.weight"
    assert torch.equal(agent.state_dict()[name], same.state_dict()[name])
    assert not torch.equal(agent.state_dict()[name], other.state_dict()[name])
    support = played(agent, agent.begin(), 0)
    other.load_state_dict(agent.state_dict())
    once, again = (x.adapt(x.begin(), support).params for x in (agent, other))
    assert all(torch.equal(once[name], x) for name, x in again.items())
    with pytest.raises(ValueError, match="not this agent's"):
        agent_on("discrete").load_state_dict(agent.state_dict())


def test_in_a_box_its_ppo_learns_in_units_of_the_box():
    """As it does from the same episodes in Box(-1, 1), to the bit."""
    far = Box(np.array([1.5, 2.5], np.float32), np.array([3.5, 6.5], np.float32))
    near = agent_on("box")
    policy = replace(near.config.policy, scale_to_box=True)
    config = replace(near.config, policy=policy)
    spec = near.spec._replace(action_space=far)
    agent = Sb3Ppo(spec, config, np.random.default_rng(0), CPU)
    support = played(near, near.begin(), 0)
    units = support.actions.mul(1024).round().div(1024)  # so that no conversion rounds
    elsewhere = torch.tensor([2.5, 4.5]) + torch.tensor([1.0, 2.0]) * units
    one = near.adapt(near.begin(), support._replace(actions=units))
    other = agent.adapt(agent.begin(), support._replace(actions=elsewhere))
    for name, x in one.params.items():
        assert torch.equal(other.params[name], x)
    assert not torch.equal(one.params["log_std"][0], near.begin().params["log_std"])


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("agent.policy.init", {"policy": PolicyConfig()}),
        ("agent.policy.context", {"policy": PolicyConfig(init="orthogonal", context=2)}),
        ("agent.policy.min_std", {"policy": PolicyConfig(init="orthogonal", min_std=0.1)}),
        ("agent.policy.std", {"policy": PolicyConfig(init="orthogonal", std="state")}),
        ("agent.normalisation", {"normalisation": NormalisationConfig(observations=True)}),
        ("agent.normalisation.clip", {"normalisation": NormalisationConfig(clip=5.0)}),
    ],
)
def test_settings_without_a_counterpart_are_refused_in_two_lines(key, settings):
    config = replace(default("sb3-ppo"), **settings)
    with pytest.raises(UserError, match=key) as refused:
        check(config)
    assert str(refused.value).count("\n") == 1


def test_the_first_policys_deviation_its_activation_and_the_optimizer_are_the_configs():
    config = default("sb3-ppo")
    policy = replace(config.policy, init_std=0.5, activation="relu")
    config = replace(config, policy=policy, inner=PpoStepsConfig(optimizer="sgd"))
    spec = catalogue.make("point-goal", 9).spec
    agent = Sb3Ppo(spec, config, np.random.default_rng(0), CPU)
    torch.testing.assert_close(agent.begin().params["log_std"].exp(), torch.tensor([0.5, 0.5]))
    assert agent._ppo.policy.activation_fn is torch.nn.ReLU
    assert isinstance(agent._ppo.policy.optimizer, torch.optim.SGD)
