"""Encoder and decoder of VariBAD (arXiv:1910.08348), as functions of parameters.

    next observation, action, reward -> embeddings -> GRU -> means, log-variances of the belief
    sample of a belief, next observation, observation, action -> MLP -> the step's reward

Sequences are [N, T, ...], one row for each trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box
from torch import Tensor

from metarl.config.settings import PolicyConfig
from metarl.config.torso import Convolution
from metarl.equations.distributions import ActionDistribution
from metarl.networks.gru import gru_states
from metarl.networks.mlp import Mlp, MlpPolicy, initial_weight
from metarl.networks.torso import Torso
from metarl.networks.value import MlpValue
from metarl.types import EnvSpec, Params

ENCODER, DECODER = "encoder.", "decoder."
"""Prefixes of the parameters' names."""
CELL = tuple(f"{ENCODER}cell.{x}" for x in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
INIT = "xavier"


class Reads(NamedTuple):
    """Widths of one part of a step, and of its embedding."""

    width: int
    units: int
    image: tuple[Convolution, ...] = ()
    """Convolutions of the image that the part begins with, if it does."""

    def layer(self, prefix: str, name: str) -> Mlp:
        """Returns the embedding, whose parameters' names begin with `prefix`."""
        torso = Torso(self.image, prefix) if self.image else None
        return Mlp((self.width, self.units), "relu", INIT, f"{prefix}{name}", torso)


class Embeddings:
    """Embeds parts of a step, each by a layer of rectified units of its own. Convolutions come
    before the layer of a part that begins with an image."""

    def __init__(self, prefix: str, **parts: Reads):
        self.layers = {name: reads.layer(prefix, name) for name, reads in parts.items()}

    def init(self, rng: np.random.Generator) -> Params:
        """Draws the weights; biases are zero."""
        return {k: x for layer in self.layers.values() for k, x in layer.init(rng).items()}

    def __call__(self, params: Params, name: str, x: Tensor) -> Tensor:
        """Returns the embedding of the part `name`, [..., units]."""
        return self.layers[name](params, x).relu()


class Encoder:
    """Maps the steps of a trial to the beliefs after each of them."""

    def __init__(self, obs: Reads, action: Reads, reward: Reads, size: int, latent: int):
        """`size` is that of the hidden state, `latent` the dimensions of the belief."""
        self.size, self.latent = size, latent
        self.embeddings = Embeddings(ENCODER, obs=obs, action=action, reward=reward)
        self.inputs = obs.units + action.units + reward.units
        self.posterior = Mlp((size, 2 * latent), "relu", INIT, f"{ENCODER}posterior")

    def init(self, rng: np.random.Generator) -> Params:
        """Returns initial parameters: hidden-to-hidden weights orthogonal, others xavier, biases
        zero. So the belief of no step is N(0, I) at first."""
        params = self.embeddings.init(rng)
        own = [initial_weight(rng, self.size, self.inputs, INIT) for _ in range(3)]
        past = [initial_weight(rng, self.size, self.size, "orthogonal") for _ in range(3)]
        biases = torch.zeros(2, 3 * self.size)
        cell = dict(zip(CELL, (torch.cat(own), torch.cat(past), *biases.clone()), strict=True))
        return {**params, **cell, **self.posterior.init(rng)}

    def run(
        self, params: Params, obs: Tensor, actions: Tensor, rewards: Tensor, memory: Tensor,
        chunk: int = 0,
    ) -> Tensor:  # fmt: skip
        """Returns the hidden states after each step, [N, T, size], from `memory` [N, size].

        Args:
            params: the encoder's parameters, and maybe others.
            obs: observations that the steps reached, [N, T, obs_dim].
            actions: encoded, [N, T, n].
            rewards: [N, T].
            memory: hidden state before the first step.
            chunk: steps after which gradients are cut; 0: never.
        """
        parts = (("obs", obs), ("action", actions), ("reward", rewards[..., None]))
        x = torch.cat([self.embeddings(params, name, part) for name, part in parts], -1)
        weights, found = [params[name] for name in CELL], []
        for inputs in x.split(chunk or max(x.shape[1], 1), 1):
            states = gru_states(inputs, weights, memory)
            found.append(states)
            memory = states[:, -1].detach()
        return torch.cat(found, 1)

    def beliefs(self, params: Params, states: Tensor) -> Tensor:
        """Returns means and log-variances [..., 2 latent] for hidden states [..., size]."""
        return self.posterior(params, states)


class Decoder:
    """Predicts the reward of a step from a sample of a belief, and the observation that the step
    reached if asked."""

    def __init__(
        self, obs: Reads, action: Reads, latent: int, hidden: Sequence[int], transitions: bool
    ):
        """`hidden` are the layers' sizes; `transitions` is whether it predicts observations."""
        self.latent, self.transitions = latent, transitions
        self.embeddings = Embeddings(DECODER, obs=obs, action=action)
        widths = (latent + 2 * obs.units + action.units, *hidden)
        self.of_rewards = Mlp((*widths, 1), "relu", INIT, f"{DECODER}reward")
        widths = (latent + obs.units + action.units, *hidden)
        self.of_obs = Mlp((*widths, obs.width), "relu", INIT, f"{DECODER}next")

    def init(self, rng: np.random.Generator) -> Params:
        """Draws the weights; biases are zero."""
        params = {**self.embeddings.init(rng), **self.of_rewards.init(rng)}
        return {**params, **self.of_obs.init(rng)} if self.transitions else params

    def rewards(
        self, params: Params, sample: Tensor, obs: Tensor, reached: Tensor, actions: Tensor,
        steps: Tensor,
    ) -> Tensor:  # fmt: skip
        """Returns rewards [N, M, D] that M samples of beliefs predict, each of D steps.

        Args:
            params: the decoder's parameters, and maybe others.
            sample: [N, M, latent].
            obs: observations before the steps, [N, T, obs_dim].
            reached: observations after them.
            actions: encoded, [N, T, n].
            steps: indices of the predicted steps, [N, M, D].
        """
        seen = [self.embeddings(params, "obs", x) for x in (reached, obs)]
        parts = [seen[0], self.embeddings(params, "action", actions), seen[1]]
        return self._predicted(self.of_rewards, params, sample, torch.cat(parts, -1), steps)[..., 0]

    def next_obs(
        self, params: Params, sample: Tensor, obs: Tensor, actions: Tensor, steps: Tensor
    ) -> Tensor:
        """Returns the observations that M samples of beliefs predict, [N, M, D, obs_dim]; arguments
        as of `rewards`."""
        known = (("obs", obs), ("action", actions))
        parts = [self.embeddings(params, name, x) for name, x in known]
        return self._predicted(self.of_obs, params, sample, torch.cat(parts, -1), steps)

    def _predicted(
        self, network: Mlp, params: Params, sample: Tensor, known: Tensor, steps: Tensor
    ) -> Tensor:
        """Returns the network's outputs at (sample, known step). The first layer is linear, so the
        part of it that belongs to a step is computed once for all samples."""
        first = f"{network.prefix}0"
        weight, bias = params[f"{first}.weight"], params[f"{first}.bias"]
        of_sample = F.linear(sample, weight[:, : self.latent])  # [N, M, units]
        of_step = F.linear(known, weight[:, self.latent :], bias)  # [N, T, units]
        rows, (trials, terms, number) = torch.arange(len(steps), device=steps.device), steps.shape
        flat = (steps + rows[:, None, None] * known.shape[1]).flatten()
        chosen = of_step.flatten(0, 1).index_select(0, flat)
        x = chosen.view(trials, terms, number, -1) + of_sample[:, :, None]
        for i in range(1, network.layers):
            name = f"{network.prefix}{i}"
            x = F.linear(x.relu(), params[f"{name}.weight"], params[f"{name}.bias"])
        return x


class BeliefPolicy:
    """A policy and a value function that read the observation and the belief, and no more."""

    def __init__(self, spec: EnvSpec, config: PolicyConfig, latent: int):
        """`latent` is the number of dimensions of the belief."""
        inputs = spec.obs_dim + 2 * latent
        self.spec = spec._replace(observation_space=Box(-np.inf, np.inf, (inputs,)))
        """The environment as the policy sees it."""
        self.mlp, self.of_values = MlpPolicy(self.spec, config), MlpValue(self.spec, config)

    def init(self, rng: np.random.Generator) -> Params:
        """Draws the weights of both."""
        return {**self.mlp.init(rng), **self.of_values.init(rng)}

    def head(self, params: Params, inputs: Tensor) -> ActionDistribution:
        """Returns the action distribution at inputs [..., N, obs_dim + 2 latent]."""
        return self.mlp(params, inputs)

    def value(self, params: Params, inputs: Tensor) -> Tensor:
        """Returns values [..., N], in the unit of the fitted targets."""
        return self.of_values(params, inputs)

    def empty_memory(self, *shape: int, like: Tensor) -> tuple[Tensor, ...]:
        """Returns no memory: only the belief tells of earlier steps."""
        return ()

    def run(
        self, params: Params, inputs: Tensor, memory: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Returns the inputs as they are, for `head` and `value`."""
        return inputs, memory
