"""The common parts of agents: meta-parameters that are saved and loaded, and an MLP policy."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from metarl.acting.policy import MlpActing
from metarl.agents.normalisation import Normaliser, normalised
from metarl.agents.outer.rule import OuterRule
from metarl.config.settings import AgentConfig, AnyAgentConfig
from metarl.equations.distributions import ActionDistribution
from metarl.networks.as_numpy import acting_mlp
from metarl.networks.mlp import MlpPolicy
from metarl.sampling.collect import memoryless
from metarl.types import Actor, EnvSpec, Params


class MetaParameters:
    """The part of an agent that is learned and saved."""

    config: AnyAgentConfig

    def __init__(
        self, meta: Params, outer: OuterRule, device: torch.device, fixed: Params | None = None
    ):
        """Moves parameters to `device`. `fixed` are some that tasks start from and no update
        changes."""
        self.meta = {name: x.to(device) for name, x in meta.items()}
        self.fixed = {name: x.to(device) for name, x in (fixed or {}).items()}
        self.outer, self.device = outer, device
        self.outer_state: Any = outer.init(self.meta)

    @property
    def steps(self) -> int:
        """Adaptation steps before a meta-update of training."""
        return self.config.inner.training_steps

    def other_state(self) -> Params:
        """Returns tensors to save besides parameters and the outer rule's state."""
        return {}

    def load_other_state(self, state: Params) -> None:
        """Takes back the tensors that `other_state` returned; `state` holds more."""

    def state_dict(self) -> Params:
        """Returns everything that a resumed run needs, as named tensors."""
        outer = self.outer.state_dict(self.outer_state)
        return {**self.fixed, **self.meta, **self.other_state(), **outer}

    def load_state_dict(self, state: Params) -> None:
        """Takes copies of the weights that `state_dict` saved.

        Copies, since what a file was read into may lie at other addresses modulo a cache line, and
        with them a sum's order.

        Raises:
            ValueError: where statistics, names, shapes or types are not this agent's, and for
                numbers that are not finite.
        """
        own, left = self.state_dict(), self.outer.left_behind
        state = {n: x for n, x in state.items() if n in own or not (left and n.startswith(left))}
        if normalised(state) != normalised(own):
            raise ValueError(
                f"these weights hold statistics of {normalised(state)}, this agent's of "
                f"{normalised(own)}; agent.normalisation must be as it was when they were saved"
            )
        expected, found = ({n: tuple(x.shape) for n, x in of.items()} for of in (own, state))
        other = [
            f"{name} {found.get(name, 'is missing')}, expected {expected.get(name, 'none')}"
            for name in sorted(expected.keys() | found.keys())
            if expected.get(name) != found.get(name)
        ]
        if other:
            raise ValueError(f"these weights are not this agent's: {'; '.join(other)}")
        for name, x in own.items():
            if state[name].dtype != x.dtype:
                raise ValueError(f"these weights hold {name} as {state[name].dtype}, not {x.dtype}")
            if not state[name].isfinite().all():
                raise ValueError(f"these weights hold numbers in {name} that are not finite")
        copies = {name: state[name].to(self.device, copy=True) for name in own}
        self.fixed = {name: copies[name] for name in self.fixed}
        self.meta = {name: copies[name] for name in self.meta}
        self.outer_state = self.outer.load(self.outer_state, copies)
        self.load_other_state(copies)


class MlpAgent(MetaParameters):
    """An agent that acts by an MLP policy on normalised observations.

    The state of K tasks has `params`, those of the policy among them, shared or [K, ...].
    """

    spec: EnvSpec
    config: AgentConfig
    policy: MlpPolicy
    normaliser: Normaliser

    @property
    def noise(self) -> tuple[str, int]:
        """The kind of noise that `act` takes, and its width."""
        return self.policy.kind.noise, self.policy.noise_dim

    def act(self, state: Any, obs: Tensor, noise: Tensor) -> tuple[Tensor, ActionDistribution]:
        """Returns actions [K, E, act_dim] at obs [K, E, obs_dim], and their distribution."""
        distribution = self.policy(state.params, self.normaliser.obs(obs))
        return distribution.sample(noise), distribution

    def actor(self, state: Any, episodes: slice) -> Actor:
        """Returns an actor that acts by `act`, alike in all episodes."""
        return memoryless(partial(self.act, state))(episodes)

    def acting(self, state: Any) -> MlpActing:
        """Returns the policy in numpy, for the workers that play."""
        return acting_mlp(self.policy, state.params, self.normaliser.numbers())

    def behaviour(self, state: Any, outputs: Tensor) -> ActionDistribution:
        """Returns the distributions for the network's outputs, [K, T, E, output_dim]."""
        return self.policy.distribution(state.params, outputs)

    def other_state(self) -> Params:
        return self.normaliser.state_dict()

    def load_other_state(self, state: Params) -> None:
        self.normaliser = self.normaliser.loaded(state)
