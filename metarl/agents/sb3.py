"""Stable-Baselines3's PPO from scratch on each task, as a control; its parameters by our names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Discrete
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from metarl.agents.inner.ppo import PpoStepsConfig
from metarl.agents.meta_parameters import checked
from metarl.config.settings import AgentConfig, PolicyConfig
from metarl.device import torch_threads
from metarl.equations.distributions import ActionDistribution
from metarl.equations.gaussian import Gaussian
from metarl.errors import UserError
from metarl.networks.mlp import MlpPolicy
from metarl.sampling.collect import memoryless
from metarl.types import Actor, EnvSpec, Metrics, Params, Trajectories

CPU = torch.device("cpu")
"""Where Stable-Baselines3 itself recommends its PPO to run, with an MLP."""


class PpoSnapshot(NamedTuple):
    """What one task's PPO consists of, between its rounds; the copy is its own."""

    weights: dict[str, Any]
    optimizer: dict[str, Any]

    @staticmethod
    def of(policy: ActorCriticPolicy) -> PpoSnapshot:
        return PpoSnapshot(deepcopy(policy.state_dict()), deepcopy(policy.optimizer.state_dict()))

    def put_into(self, policy: ActorCriticPolicy) -> None:
        policy.load_state_dict(self.weights)
        # A copy: the optimizer would go on in these very tensors.
        policy.optimizer.load_state_dict(deepcopy(self.optimizer))


class Sb3Tasks(NamedTuple):
    """K tasks on their way from the same initial weights."""

    params: Params
    """Of their policies, by our names; shared before the first round, then [K, ...]."""
    snapshots: tuple[PpoSnapshot, ...]
    """Empty before the first round."""
    rounds: int


class Sb3Ppo:
    """A control: begin, actor, adapt as of any agent, and a meta_update that changes nothing.

    An adaptation step is what `PPO.learn` does with a round of episodes, by its own code. The tasks
    are learned one after the other.
    """

    def __init__(
        self, spec: EnvSpec, config: AgentConfig, rng: np.random.Generator, device: torch.device
    ):
        """
        Raises:
            UserError: for settings that Stable-Baselines3's PPO has no counterpart of.
        """
        assert isinstance(config.inner, PpoStepsConfig)
        _check_served(config)
        self.spec, self.config, self.device = spec, config, device
        self.inner = config.inner
        self.policy = MlpPolicy(spec, config.policy)
        with _global_draws(int(rng.integers(2**32))):
            self._ppo = _ppo_without_env(spec, config, config.inner)
        self._start = PpoSnapshot.of(self._ppo.policy)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user is to know before it starts."""
        return (
            f"{self.config.name} learns nothing from one task for another: each begins from the "
            "same initial weights, and one iteration is as good as many",
        )

    @property
    def noise(self) -> tuple[str, int]:
        """The kind of noise that an actor takes, and its width."""
        return self.policy.kind.noise, self.policy.noise_dim

    @property
    def steps(self) -> int:
        """PPO updates of each task in an iteration."""
        return self.inner.steps

    def begin(self) -> Sb3Tasks:
        """Every task starts at the same initial weights."""
        params = _params([self._start], self.policy)
        return Sb3Tasks({n: x[0].to(self.device) for n, x in params.items()}, (), 0)

    def actor(self, state: Sb3Tasks, episodes: slice) -> Actor:
        """Acts by the tasks' policies, all in one call; which episodes it is does not matter."""

        def act(obs: Tensor, noise: Tensor) -> tuple[Tensor, ActionDistribution]:
            distribution = self.policy(state.params, obs)
            return distribution.sample(noise), distribution

        return memoryless(act)(episodes)

    def adapt(self, state: Sb3Tasks, support: Trajectories) -> Sb3Tasks:
        """One PPO update of every task on its own episodes. Changes nothing here.

        Raises:
            UserError: where a policy's output is not finite any more.
        """
        before = state.snapshots or (self._start,) * len(support.obs)
        with torch_threads(1):
            after = tuple(
                self._learned(learner, support, task, state.rounds)
                for task, learner in enumerate(before)
            )
        params = {n: x.to(self.device) for n, x in _params(after, self.policy).items()}
        return Sb3Tasks(params, after, state.rounds + 1)

    def meta_update(
        self, state: Sb3Tasks, query: Trajectories, rng: np.random.Generator
    ) -> Metrics:
        """Nothing: a control learns each task alone."""
        return {"skipped": 0.0}

    def state_dict(self) -> Params:
        return dict(self._start.weights)

    def load_state_dict(self, state: Params) -> None:
        """Takes what `state_dict` saved.

        Raises:
            ValueError: where names or shapes are not this agent's.
        """
        weights = checked(state, self._start.weights, CPU)
        self._start = self._start._replace(weights=weights)

    def _learned(
        self, learner: PpoSnapshot, support: Trajectories, task: int, rounds: int
    ) -> PpoSnapshot:
        ppo = self._ppo
        learner.put_into(ppo.policy)
        ppo.rollout_buffer = rollout(ppo, support, task)
        ppo.batch_size = math.ceil(ppo.rollout_buffer.buffer_size / self.inner.minibatches)
        try:
            with _global_draws(rounds):
                ppo.train()
        except ValueError as error:  # torch's distributions look at their parameters
            raise UserError(
                f"{self.config.name}: in round {rounds + 1} of task {task} the policy came to give "
                "numbers that are not finite\nlower the learning rate, --agent.inner.lr"
            ) from error
        return PpoSnapshot.of(ppo.policy)


def rollout(ppo: PPO, support: Trajectories, task: int) -> RolloutBuffer:
    """One task's episodes, [K, T, E, ...] -> [N], end to end without their padding.

    As `PPO.collect_rollouts` fills it from a single environment: a time limit is no end of the
    task, so the value beyond it is added to the last reward.
    """
    mask = support.mask[task].mT  # [E, T]: episode after episode

    def samples(x: Tensor) -> Tensor:
        """[T, E, ...] -> [N, ...]"""
        return x.transpose(0, 1)[mask].to(CPU)

    policy, num_samples = ppo.policy, int(mask.sum())
    buffer = RolloutBuffer(
        num_samples,
        ppo.observation_space,
        ppo.action_space,
        device=CPU,
        gae_lambda=ppo.gae_lambda,
        gamma=ppo.gamma,
    )
    obs, actions = samples(support.obs[task]), samples(support.actions[task])
    flat = actions.flatten() if isinstance(ppo.action_space, Discrete) else actions
    policy.set_training_mode(False)
    with torch.no_grad():
        values, log_probs, _ = policy.evaluate_actions(obs, flat)
        beyond = policy.predict_values(support.final_obs[task].to(CPU)).T.to(mask.device)  # [1, E]
    bootstrap = torch.where(support.truncated[task], ppo.gamma * beyond, 0.0)  # [T, E]
    buffer.observations[:, 0], buffer.actions[:, 0] = obs.numpy(), actions.numpy()
    buffer.rewards[:, 0] = samples(support.rewards[task] + bootstrap).numpy()
    first = torch.zeros_like(support.mask[task])
    first[0] = True
    buffer.episode_starts[:, 0] = samples(first).numpy()
    buffer.values[:, 0], buffer.log_probs[:, 0] = values.flatten().numpy(), log_probs.numpy()
    buffer.pos, buffer.full = num_samples, True
    buffer.compute_returns_and_advantage(torch.zeros(1), dones=np.ones(1))
    return buffer


def policy_names(policy: MlpPolicy) -> dict[str, str]:
    """Our names of a policy's parameters -> those of Stable-Baselines3."""
    names = _layer_names("", policy.layers, "policy_net", "action_net")
    return {**names, "log_std": "log_std"} if policy.kind is Gaussian else names


def value_names(policy: MlpPolicy) -> dict[str, str]:
    """The same of the value function beside it."""
    return _layer_names("value.", policy.layers, "value_net", "value_net")


def _layer_names(prefix: str, layers: int, net: str, head: str) -> dict[str, str]:
    places = [*(f"mlp_extractor.{net}.{2 * i}" for i in range(layers - 1)), head]
    return {
        f"{prefix}layer{i}.{part}": f"{place}.{part}"
        for i, place in enumerate(places)
        for part in ("weight", "bias")
    }


def _params(learners: Sequence[PpoSnapshot], policy: MlpPolicy) -> Params:
    """The policies' parameters by our names, [K, ...]."""
    return {
        ours: torch.stack([learner.weights[theirs] for learner in learners])
        for ours, theirs in policy_names(policy).items()
    }


def policy_arguments(config: PolicyConfig) -> dict[str, Any]:
    """An MLP for the policy, and one of that size for the value function."""
    return {
        "net_arch": {"pi": list(config.hidden), "vf": list(config.hidden)},
        "activation_fn": {"relu": nn.ReLU, "tanh": nn.Tanh}[config.activation],
        "log_std_init": math.log(config.init_std),
    }


def _ppo_without_env(spec: EnvSpec, config: AgentConfig, inner: PpoStepsConfig) -> PPO:
    """As `PPO.load` makes one for which there is no environment yet."""
    optimizers = {"adam": {}, "sgd": {"optimizer_class": torch.optim.SGD}}
    ppo = PPO(
        "MlpPolicy",
        None,  # pyright: ignore[reportArgumentType]
        learning_rate=inner.lr,
        n_epochs=inner.epochs,
        gamma=config.advantages.discount,
        gae_lambda=config.advantages.gae_lambda,
        clip_range=inner.clip,
        ent_coef=inner.entropy,
        vf_coef=inner.value_weight,
        max_grad_norm=inner.max_grad_norm,
        policy_kwargs={**policy_arguments(config.policy), **optimizers[inner.optimizer]},
        device=CPU,
        _init_setup_model=False,
    )
    ppo.observation_space, ppo.action_space = spec.observation_space, spec.action_space
    ppo.n_envs = 1
    ppo._setup_model()
    ppo.set_logger(Logger(None, []))
    return ppo


def _check_served(config: AgentConfig) -> None:
    policy = config.policy
    unserved = {
        "agent.policy.init": policy.init != "orthogonal",
        "agent.policy.min_std": policy.min_std != PolicyConfig.min_std,
        "agent.policy.context": policy.context > 0,
        "agent.normalisation.observations": config.normalisation.observations,
        "agent.normalisation.rewards": config.normalisation.rewards,
    }
    asked = [key for key, is_asked in unserved.items() if is_asked]
    if asked:
        raise UserError(
            f"{config.name}: Stable-Baselines3's PPO has no counterpart of {' and '.join(asked)}\n"
            "  leave out what asks for it; a preset's normalisation goes off by "
            "--agent.normalisation.no-observations --agent.normalisation.no-rewards"
        )


@contextmanager
def _global_draws(seed: int) -> Iterator[None]:
    """Stable-Baselines3 draws weights from torch's global generator and minibatches from numpy's.
    Both go on afterwards as they were."""
    before = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
