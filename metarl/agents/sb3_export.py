"""Export of an adapted policy to Stable-Baselines3's PPO, which acts the same and can learn on.

There is no import: metarl never loads a .zip from elsewhere, since loading unpickles it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium.spaces import Space
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import GymEnv
from torch import Tensor, nn

from metarl.agents.meta_parameters import MlpAgent
from metarl.agents.normalisation import Normaliser
from metarl.agents.sb3 import (
    CPU,
    Sb3Ppo,
    policy_arguments,
    policy_names,
    torso_arguments,
    value_names,
)
from metarl.equations.box_gaussian import BoxGaussian
from metarl.equations.running_stats import RunningStats, deviation
from metarl.errors import UserError
from metarl.networks.mlp import MlpPolicy, select_tasks
from metarl.types import EnvSpec, Params


def export(
    agent: MlpAgent, state: Any, task: int, env: GymEnv, settings: Mapping[str, Any] | None = None
) -> PPO:
    """Returns a task's adapted policy as a Stable-Baselines3 PPO that can learn on in `env`.

    Its `predict` takes raw observations. The value function is the task's own if the agent has an
    MLP for it, as Reptile has, and a fresh one otherwise. PPO has no lower bound on the deviation
    of actions: `min_std` and `max_std` hold for the exported policy, not for further learning.

    Args:
        agent: an agent with an MLP policy: Gaussian, categorical or multi-categorical.
        state: the state that its `begin` or `adapt` returned.
        task: index of the task in the state.
        env: an environment, or a VecEnv, with the agent's spaces.
        settings: further arguments of PPO, such as `n_steps`. The discount is the agent's.

    Raises:
        UserError: for an agent with another policy, a deviation that depends on observations, or
            an environment with other spaces.
    """
    config, policy = agent.config, agent.policy
    if not isinstance(policy, MlpPolicy) or isinstance(agent, Sb3Ppo):
        raise UserError(
            f"{config.name} has adapted no MLP policy that could be exported\n"
            "export an agent that adapts by gradient steps or by Reptile's PPO"
        )
    if policy.std == "state":
        raise UserError(
            f"{config.name} has a deviation that depends on observations (agent.policy.std), "
            "which PPO's policy for a Box has no counterpart of\n"
            "export an agent trained with --agent.policy.std shared"
        )
    if policy.network.torso and "obs" in agent.normaliser.stats:
        raise UserError(
            f"{config.name} has convolutions and normalises other numbers, which no export holds\n"
            "export an agent trained with --agent.normalisation.observations False, or save it by "
            "adapted.save(path)"
        )
    _check_same_spaces(agent.spec, env)
    given = {"gamma": config.advantages.discount, "device": CPU, **(settings or {})}
    arguments = {
        **policy_arguments(config.policy),
        **torso_arguments(policy),
        **_normalisation(agent.normaliser),
    }
    ppo = PPO("MlpPolicy", env, policy_kwargs=arguments, **given)
    own = _in_environment_units(select_tasks(state.params, task), agent)
    names = {**policy_names(policy), **value_names(policy)}
    weights = {theirs: own[ours].detach() for ours, theirs in names.items() if ours in own}
    ppo.policy.load_state_dict({**ppo.policy.state_dict(), **weights})
    return ppo


class Normalised(BaseFeaturesExtractor):
    """Normalises observations like `Normaliser.obs`, by fixed statistics."""

    def __init__(self, observation_space: Space, stats: RunningStats, clip: float):
        super().__init__(observation_space, len(stats.mean))
        self.clip = clip
        self.mean, self.deviation = nn.Buffer(stats.mean.clone()), nn.Buffer(deviation(stats))

    def forward(self, obs: Tensor) -> Tensor:
        normal = (obs - self.mean) / self.deviation
        return normal.clamp(-self.clip, self.clip).to(obs.dtype)


def _normalisation(normaliser: Normaliser) -> dict[str, Any]:
    """Returns policy arguments that normalise observations as the agent does."""
    stats = normaliser.stats.get("obs")
    if stats is None or stats.count == 0:
        return {}
    arguments = {"stats": RunningStats(*(x.cpu() for x in stats)), "clip": normaliser.config.clip}
    return {"features_extractor_class": Normalised, "features_extractor_kwargs": arguments}


def _in_environment_units(params: Params, agent: MlpAgent) -> Params:
    """Folds the task's context into the first bias, and scales values to raw rewards."""
    own = dict(params)
    if "context" in own:
        width = own["layer0.weight"].shape[1] - len(own["context"])
        observed, constant = own["layer0.weight"].split([width, len(own["context"])], dim=1)
        own["layer0.bias"] = own["layer0.bias"] + constant @ own["context"]
        own["layer0.weight"] = observed
    if "log_std" in own:
        own["log_std"] = own["log_std"].clamp(*agent.config.policy.log_stds)
    if issubclass(agent.policy.kind, BoxGaussian):
        _leave_units(own, agent.policy.kind, f"layer{agent.policy.layers - 1}")
    if "returns" in agent.normaliser.stats:
        unit = deviation(agent.normaliser.stats["returns"])
        last = f"value.layer{agent.policy.layers - 1}."
        own.update({name: (x * unit).float() for name, x in own.items() if name.startswith(last)})
    return own


def _leave_units(own: Params, kind: type[BoxGaussian], last: str) -> None:
    """Scales the mean and the deviation from units of the action box to those of actions."""
    middle, half = (own["log_std"].new_tensor(x) for x in (kind.middle, kind.half))
    own[f"{last}.weight"] = half[:, None] * own[f"{last}.weight"]
    own[f"{last}.bias"] = middle + half * own[f"{last}.bias"]
    own["log_std"] = own["log_std"] + half.log()


def _check_same_spaces(spec: EnvSpec, env: GymEnv) -> None:
    seen, acted = spec.observation_space, spec.action_space
    if spec.image is not None and len(env.observation_space.shape or (0, 0)) != 1:
        raise UserError(
            f"the agent learned {spec.name} on vectors that begin with the pixels, and this "
            f"environment has {type(env.observation_space).__name__} observations\n"
            "give metarl.envs.gym.task_vec_env.TaskVecEnv(distribution, task), which has vectors, "
            "or save the policy by adapted.save(path)"
        )
    if env.observation_space.shape != seen.shape or env.action_space != acted:
        raise UserError(
            f"the agent learned {spec.name}, with {seen.shape[0]} observations and actions in "
            f"{acted}\nthis environment has {env.observation_space} and {env.action_space}"
        )
