"""Control agent: Stable-Baselines3's PPO from scratch on each task, with metarl's names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from metarl.agents.inner.ppo import PpoStepsConfig
from metarl.agents.meta_parameters import MlpAgent
from metarl.agents.normalisation import Normaliser
from metarl.config.settings import AgentConfig, PolicyConfig
from metarl.device import torch_threads
from metarl.equations.box_gaussian import BoxGaussian
from metarl.errors import UnstableError
from metarl.networks.mlp import MlpPolicy
from metarl.networks.torso import Torso
from metarl.types import EnvSpec, Metrics, Params, Trajectories

CPU = torch.device("cpu")
"""Device that Stable-Baselines3 recommends for PPO with an MLP."""


class PpoSnapshot(NamedTuple):
    """Deep copy of one task's PPO between rounds."""

    weights: dict[str, Any]
    optimizer: dict[str, Any]

    @staticmethod
    def of(policy: ActorCriticPolicy) -> PpoSnapshot:
        return PpoSnapshot(deepcopy(policy.state_dict()), deepcopy(policy.optimizer.state_dict()))


class Sb3Tasks(NamedTuple):
    """State of K tasks that started from the same initial weights."""

    params: Params
    """Policy parameters under metarl's names; shared before the first round, then [K, ...]."""
    snapshots: tuple[PpoSnapshot, ...]
    """Empty before the first round."""
    rounds: int


class Sb3Ppo(MlpAgent):
    """Control agent with begin, actor and adapt, and a meta_update that changes nothing.

    An adaptation step runs Stable-Baselines3's own PPO update on a round of episodes. The tasks
    are learned one after another. The meta-parameters are the initial weights of all tasks, under
    Stable-Baselines3's names.
    """

    def __init__(
        self, spec: EnvSpec, config: AgentConfig, rng: np.random.Generator, device: torch.device
    ):
        assert isinstance(config.inner, PpoStepsConfig)
        self.spec, self.config, self.inner = spec, config, config.inner
        self.policy = MlpPolicy(spec, config.policy)
        self.normaliser = Normaliser.before_anything(spec, config, device)  # it does nothing here
        with _global_draws(int(rng.integers(2**32))):
            self._ppo = _ppo_without_env(spec, config, self.policy)
        weights, self._fresh = PpoSnapshot.of(self._ppo.policy)
        super().__init__(weights, config.outer.build(), device)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes that the user sees before training starts."""
        return (
            f"{self.config.name} learns nothing from one task for another: each begins from the "
            "same initial weights, and one iteration is as good as many",
        )

    def begin(self) -> Sb3Tasks:
        """Returns the state of a new task: the same initial weights for all."""
        names = policy_names(self.policy)
        return Sb3Tasks({ours: self.meta[theirs] for ours, theirs in names.items()}, (), 0)

    def adapt(self, state: Sb3Tasks, support: Trajectories) -> Sb3Tasks:
        """Updates every task once by PPO on its own episodes. Leaves the agent unchanged.

        Raises:
            UnstableError: if a policy's output is no longer finite.
        """
        before = state.snapshots or (PpoSnapshot(self.meta, self._fresh),) * len(support.obs)
        if issubclass(self.policy.kind, BoxGaussian):  # its network knows no box
            support = support._replace(actions=self.policy.kind.in_units(support.actions))
        with torch_threads(1):
            after = tuple(
                self._learned(learner, support, task, state.rounds)
                for task, learner in enumerate(before)
            )
        params = {
            ours: torch.stack([learner.weights[theirs] for learner in after]).to(self.device)
            for ours, theirs in policy_names(self.policy).items()
        }
        return Sb3Tasks(params, after, state.rounds + 1)

    def meta_update(
        self, state: Sb3Tasks, query: Trajectories, rng: np.random.Generator
    ) -> Metrics:
        """Changes nothing, since a control learns each task alone."""
        return {"skipped": 0.0}

    def _learned(
        self, learner: PpoSnapshot, support: Trajectories, task: int, rounds: int
    ) -> PpoSnapshot:
        ppo = self._ppo
        ppo.policy.load_state_dict(learner.weights)
        # Copied, since the optimizer would change these tensors in place.
        ppo.policy.optimizer.load_state_dict(deepcopy(learner.optimizer))
        ppo.rollout_buffer = rollout(ppo, support, task)
        ppo.batch_size = math.ceil(ppo.rollout_buffer.buffer_size / self.inner.minibatches)
        try:
            with _global_draws(rounds):
                ppo.train()
        except ValueError as error:  # torch's distributions check their parameters
            raise UnstableError(
                f"{self.config.name}: in round {rounds + 1} of task {task} the policy came to give "
                "numbers that are not finite\nlower the learning rate, --agent.inner.lr"
            ) from error
        return PpoSnapshot.of(ppo.policy)


def rollout(ppo: PPO, support: Trajectories, task: int) -> RolloutBuffer:
    """Returns one task's episodes, [K, T, E, ...] -> [N], joined without padding.

    It is filled as `PPO.collect_rollouts` does from a single environment. A time limit does not
    end the task, so the value after it is added to the last reward.
    """
    mask = support.mask[task].mT  # [E, T], one episode after another

    def samples(x: Tensor) -> Tensor:
        """Reshapes [T, E, ...] to [N, ...] without padding."""
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
    """Maps metarl's names of policy parameters to those of Stable-Baselines3."""
    names = _layer_names("", policy, "policy_net", "action_net", "pi_features_extractor")
    return {**names, "log_std": "log_std"} if policy.std == "shared" else names


def value_names(policy: MlpPolicy) -> dict[str, str]:
    """Maps metarl's names of value parameters to those of Stable-Baselines3."""
    return _layer_names("value.", policy, "value_net", "value_net", "vf_features_extractor")


def _layer_names(
    prefix: str, policy: MlpPolicy, net: str, head: str, extractor: str
) -> dict[str, str]:
    places = [*(f"mlp_extractor.{net}.{2 * i}" for i in range(policy.layers - 1)), head]
    found = {f"{prefix}layer{i}": place for i, place in enumerate(places)}
    if (torso := policy.network.torso) is not None:
        found |= {f"{prefix}{n}": f"{extractor}.layers.{n}" for n in torso.names}
    return {
        f"{ours}.{part}": f"{theirs}.{part}"
        for ours, theirs in found.items()
        for part in ("weight", "bias")
    }


class Convolved(BaseFeaturesExtractor):
    """Replaces the pixels of observation vectors by features, like the policy's own torso.

    Policy and value function have one each. Weights are those of metarl, by the same names.
    """

    def __init__(self, observation_space: Box, convolutions: Any, activation: str):
        self.activation, torso = activation, Torso(convolutions, "")
        super().__init__(observation_space, torso.width(observation_space.shape[0]))
        self.torso = torso
        self.layers = nn.ModuleDict(
            {
                name: nn.Linear(plan.patch, plan.after[0])
                for name, plan in zip(torso.names, convolutions, strict=True)
            }
        )

    def forward(self, obs: Tensor) -> Tensor:
        own = {
            f"{name}.{part}": getattr(self.layers[name], part)
            for name in self.torso.names
            for part in ("weight", "bias")
        }
        return self.torso(own, obs, self.activation)


def torso_arguments(policy: MlpPolicy) -> dict[str, Any]:
    """Returns policy arguments of PPO for a torso; none without one."""
    if (torso := policy.network.torso) is None:
        return {}
    own = {"convolutions": torso.convolutions, "activation": policy.config.activation}
    return {
        "features_extractor_class": Convolved,
        "features_extractor_kwargs": own,
        "share_features_extractor": False,
    }


def policy_arguments(config: PolicyConfig) -> dict[str, Any]:
    """Returns PPO's arguments for a policy MLP and a value MLP of the same size."""
    return {
        "net_arch": {"pi": list(config.hidden), "vf": list(config.hidden)},
        "activation_fn": {"relu": nn.ReLU, "tanh": nn.Tanh}[config.activation],
        "log_std_init": math.log(config.init_std),
    }


def _ppo_without_env(spec: EnvSpec, config: AgentConfig, policy: MlpPolicy) -> PPO:
    """Makes a PPO without an environment, as `PPO.load` does."""
    inner = config.inner
    assert isinstance(inner, PpoStepsConfig)
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
        target_kl=inner.target_kl or None,  # it stops at 1.5 times this
        policy_kwargs={
            **policy_arguments(config.policy),
            **torso_arguments(policy),
            **optimizers[inner.optimizer],
        },
        device=CPU,
        _init_setup_model=False,
    )
    ppo.observation_space, ppo.action_space = spec.observation_space, spec.action_space
    ppo.n_envs = 1
    ppo._setup_model()
    ppo.set_logger(Logger(None, []))
    return ppo


@contextmanager
def _global_draws(seed: int) -> Iterator[None]:
    """Seeds torch's global generator (Stable-Baselines3's weights) and numpy's (its minibatches),
    and restores both afterwards."""
    before = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
