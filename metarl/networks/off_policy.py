"""A recurrent actor and recurrent critics with memories of their own, as functions of parameters.

    observation, previous step -> layer -> GRU --+
                                                 +-> MLP -> distribution of actions, or value
    observation (critics: and action) -> layer --+

The memory encodes the trial so far, and the way past it the present step (arXiv:2110.05038, App. E
and code). Sequences are [N, T, ...], a row for each trial. The critics share one memory; their
last layers are an ensemble, computed as one batched product.

Where observations begin with an image, convolutions with rectified units come before both layers.
The actor has its own, and the critics share others.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from metarl.config.settings import PolicyConfig
from metarl.equations.box_gaussian import is_bounded
from metarl.equations.categorical import Categorical
from metarl.equations.squashed_gaussian import SquashedGaussian, squashed_gaussian
from metarl.errors import UserError
from metarl.networks.gru import gru_states
from metarl.networks.mlp import Mlp, activated, initial_weight, linear
from metarl.networks.torso import torso_of
from metarl.types import EnvSpec, Params

MAX_LOG_STD = 2.0
"""Upper bound of the deviation's logarithm before the squashing, as in SAC's code."""
RANDOM_STD = 0.87
"""Deviation of u whose tanh is nearly uniform: in each twentieth of the box its probability is
within a sixth of that of a uniform action, but for the outermost, where it is less by a tenth."""


class Encoder:
    """A layer with rectified units and a GRU (arXiv:1406.1078): inputs of a trial -> its memory.

    Convolutions of an image come before that layer.
    """

    def __init__(self, prefix: str, seen: Mlp, more: int, embedding: int, size: int, init: str):
        """The inputs are an observation, which `seen` reads, and `more` numbers."""
        self.prefix, self.seen, self.size, self.weights_by = prefix, seen, size, init
        self.embed = Mlp((seen.sizes[0] + more, embedding), "relu", init, f"{prefix}embed")

    def init(self, rng: np.random.Generator) -> Params:
        """Returns initial parameters: recurrent weights orthogonal for each gate, biases zero."""
        params = {**self.seen.init(rng), **self.embed.init(rng)}
        weight = partial(initial_weight, rng)
        own = [weight(self.size, self.embed.sizes[-1], self.weights_by) for _ in range(3)]
        params[f"{self.prefix}cell.weight_ih"] = torch.cat(own)
        own = [weight(self.size, self.size, "orthogonal") for _ in range(3)]
        params[f"{self.prefix}cell.weight_hh"] = torch.cat(own)
        for name in ("bias_ih", "bias_hh"):
            params[f"{self.prefix}cell.{name}"] = torch.zeros(3 * self.size)
        return params

    def __call__(self, params: Params, inputs: Tensor, memory: Tensor) -> Tensor:
        """Returns the memory after each step, [N, T, size], of inputs [N, T, ...] from `memory`
        [N, size]."""
        x = self.embed(params, self.seen(params, inputs)).relu()
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return gru_states(x, [params[f"{self.prefix}cell.{name}"] for name in names], memory)


class RecurrentActor:
    """Acts on the observation and the previous step: its action, its reward and whether it ended
    an episode.

    Actions of a Box are tanh of Gaussians (`squashed_gaussian.py`); of a Discrete, categorical.
    """

    prefix = "actor."

    def __init__(self, spec: EnvSpec, policy: PolicyConfig, size: int, embedding: int):
        self.config, self.size, self.spec = policy, size, spec
        self.kind: Any
        self.choices, self.kind = action_kind(spec)
        """Number of choices of a Discrete, 0 for a Box; and the class of distributions."""
        self.noise_dim = self.choices or spec.act_dim
        """Width of the noise that one action is sampled with, and of `encoded` actions."""
        self.before_dim = self.noise_dim + 2
        self.seen = seen_by(self.prefix, spec, policy)
        self.encoder = Encoder(
            self.prefix, self.seen, self.before_dim, embedding, size, policy.init
        )
        self.past_memory = Mlp((*self.seen.sizes, embedding), "relu", policy.init, "actor.now")
        outputs = self.noise_dim * (1 if self.choices else 2)
        self.head = Mlp(
            (size + embedding, *policy.hidden, outputs),
            policy.activation,
            policy.init,
            "actor.layer",
        )

    def init(self, rng: np.random.Generator) -> Params:
        """Draws weights by `config.init`. Those of the deviation are zero and their biases
        log(init_std), so that it is the same at every observation."""
        params = {**self.encoder.init(rng), **self.past_memory.init(rng)}
        if self.choices:
            return {**params, **self.head.init(rng)}
        sizes = (*self.head.sizes[:-1], self.noise_dim)
        mean = Mlp(sizes, self.head.activation, self.config.init, self.head.prefix).init(rng)
        last = f"{self.head.prefix}{self.head.layers - 1}"
        weight, bias = mean[f"{last}.weight"], mean[f"{last}.bias"]
        mean[f"{last}.weight"] = torch.cat([weight, torch.zeros_like(weight)])
        mean[f"{last}.bias"] = torch.cat(
            [bias, torch.full_like(bias, math.log(self.config.init_std))]
        )
        return {**params, **mean}

    def random(self, params: Params) -> Params:
        """Returns parameters that act at random, uniformly over choices and almost uniformly over
        a box: u has the mean 0 and the deviation `RANDOM_STD`."""
        last = f"{self.head.prefix}{self.head.layers - 1}"
        weight, bias = params[f"{last}.weight"], torch.zeros_like(params[f"{last}.bias"])
        if not self.choices:
            bias[self.noise_dim :] = math.log(RANDOM_STD)
        return {**params, f"{last}.weight": torch.zeros_like(weight), f"{last}.bias": bias}

    def before(self, actions: Tensor, rewards: Tensor, ended: Tensor) -> Tensor:
        """Returns the inputs that describe the previous step, [..., before_dim]: actions as
        `encoded`, `rewards` [...], and `ended` [...], 1 if an episode ended there, else 0."""
        return torch.cat([actions, rewards[..., None], ended[..., None]], -1)

    def encoded(self, actions: Tensor) -> Tensor:
        """Returns actions [..., act_dim] as networks read them, [..., noise_dim]: choices one-hot,
        others in units of the box."""
        if self.choices:
            return F.one_hot(actions.squeeze(-1).long(), self.choices).float()
        return self.kind.in_units(actions)

    def outputs(self, params: Params, obs: Tensor, memory: Tensor) -> Tensor:
        """Returns the head's outputs at obs [..., obs_dim] with the memory [..., size] after it."""
        now = self.past_memory(params, self.seen(params, obs)).relu()
        return self.head(params, torch.cat([memory, now], -1))

    def distribution(self, outputs: Tensor) -> Any:
        """Returns the distribution for the head's outputs."""
        if self.choices:
            return self.kind(outputs)
        mean, log_std = outputs.chunk(2, -1)
        return self.kind(mean, log_std.clamp(*self.log_stds))

    @property
    def log_stds(self) -> tuple[float, float]:
        """Logarithms of the bounds of the deviation before squashing."""
        least, most = self.config.log_stds
        return least, min(most, MAX_LOG_STD)


class Critics:
    """C action values: of an action in a Box, or of every choice of a Discrete."""

    prefix = "critic."

    def __init__(self, actor: RecurrentActor, count: int, embedding: int):
        policy, self.count, self.choices = actor.config, count, actor.choices
        size, self.seen = actor.size, seen_by(self.prefix, actor.spec, policy)
        self.encoder = Encoder(
            self.prefix, self.seen, actor.before_dim, embedding, size, policy.init
        )
        now = self.seen.sizes[0] + (0 if self.choices else actor.noise_dim)
        self.past_memory = Mlp((now, embedding), "relu", policy.init, "critic.now")
        self.head = Mlp(
            (size + embedding, *policy.hidden, self.choices or 1),
            policy.activation, policy.init, "critic.layer",
        )  # fmt: skip

    def init(self, rng: np.random.Generator) -> Params:
        """Returns initial parameters; those of the ensemble are [C, ...], drawn independently."""
        heads = [self.head.init(rng) for _ in range(self.count)]
        joined = {name: torch.stack([head[name] for head in heads]) for name in heads[0]}
        return {**self.encoder.init(rng), **self.past_memory.init(rng), **joined}

    def q(self, params: Params, obs: Tensor, memory: Tensor, actions: Tensor) -> Tensor:
        """Returns values [C, N, T], or [C, N, T, n] of all choices, whose `actions` are not read.

        Args:
            params: of this network.
            obs: [N, T, obs_dim].
            memory: [N, T, size], the encoder's output.
            actions: [N, T, act_dim] in units of the box.
        """
        seen = self.seen(params, obs)
        read = seen if self.choices else torch.cat([seen, actions], -1)
        x = torch.cat([memory, self.past_memory(params, read).relu()], -1)
        found = self._ensemble(params, x.flatten(0, 1)).unflatten(1, x.shape[:2])
        return found if self.choices else found.squeeze(-1)

    def _ensemble(self, params: Params, x: Tensor) -> Tensor:
        """Returns the last layers' outputs [C, rows, n] at common inputs x [rows, ...]."""
        layers = [
            [params[f"{self.head.prefix}{i}.{part}"] for part in ("weight", "bias")]
            for i in range(self.head.layers)
        ]
        (weight, bias), *others = layers
        # All critics read the same inputs: their first layers are one product.
        h = F.linear(x, weight.flatten(0, 1), bias.flatten())
        h = h.unflatten(1, (self.count, -1)).transpose(0, 1)
        for weight, bias in others:
            h = linear(activated(h, self.head.activation), weight, bias)
        return h


def seen_by(prefix: str, spec: EnvSpec, policy: PolicyConfig) -> Mlp:
    """Returns the convolutions that read an image, as an MLP without layers; without an image it
    changes nothing."""
    torso = torso_of(spec, policy, prefix)
    return Mlp((spec.obs_dim,), "relu", policy.init, f"{prefix}seen", torso)


def action_kind(spec: EnvSpec) -> tuple[int, type[SquashedGaussian | Categorical]]:
    """Returns the number of choices, 0 for a Box, and the class of the distribution of actions.

    Raises:
        UserError: for a box without bounds, and for spaces of several choices.
    """
    space = spec.action_space
    if isinstance(space, Discrete) and space.start == 0:
        return int(space.n), Categorical
    if isinstance(space, Box):
        low, high = space.low.ravel().tolist(), space.high.ravel().tolist()
        open_ones = [
            i for i, ends in enumerate(zip(low, high, strict=True)) if not is_bounded(*ends)
        ]
        if not open_ones:
            return 0, squashed_gaussian(low, high)
        raise UserError(
            f"{spec.name}: actions of rl2-sac are squashed into a box, and dimension "
            f"{open_ones[0]} of {space} has no bounds\n"
            "bound it (gymnasium.wrappers.RescaleAction), or take --agent rl2"
        )
    raise UserError(
        f"{spec.name}: rl2-sac acts in a flat Box or in Discrete(n) counted from 0, not in {space}"
        "\ntake --agent rl2, or give the choices as one Discrete"
    )
