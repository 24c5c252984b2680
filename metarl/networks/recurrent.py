"""A recurrent policy and value function with a common memory, as functions of parameters.

    inputs of a step -> encoder (an MLP) -> GRU or LSTM -> action distribution, value

Sequences are [N, T, ...], one row for each trial. Fused cells run over all T steps: torch's, and on
a processor our own GRU.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from metarl.config.settings import PolicyConfig
from metarl.networks.gru import Gru
from metarl.networks.mlp import Mlp, MlpPolicy, activated, initial_weight
from metarl.networks.torso import torso_of
from metarl.types import EnvSpec, Params

Memory: TypeAlias = tuple[Tensor, ...]
"""State of the cell between steps, [..., size] each: h of a GRU; h and c of an LSTM."""


class RecurrentPolicy:
    """Acts on the observation and the previous step: its action, its reward and whether it ended
    an episode."""

    def __init__(self, spec: EnvSpec, policy: PolicyConfig, cell: str, size: int):
        """`cell` is "gru" or "lstm", `size` that of its hidden state."""
        self.config, self.cell, self.size = policy, cell, size
        memory = spec._replace(observation_space=Box(-1.0, 1.0, (size,)), image=None)
        self.head = MlpPolicy(memory, replace(policy, hidden=(), context=0))
        """Maps the cell's outputs [..., N, size] to action distributions."""
        self.before_dim = self.head.noise_dim + 2
        sizes = (spec.obs_dim + self.before_dim, *policy.hidden)
        torso = torso_of(spec, policy)
        self.encoder = Mlp(sizes, policy.activation, policy.init, "encoder", torso)

    def before(self, actions: Tensor, rewards: Tensor, ended: float) -> Tensor:
        """Encodes the previous step, [..., before_dim]: `actions` [..., act_dim] (discrete ones
        become one-hot), `rewards` [...], and 1 if the episode `ended` there, else 0."""
        parts = (
            self.head.encoded(actions),
            rewards[..., None],
            torch.full_like(rewards[..., None], ended),
        )
        return torch.cat([x.to(rewards.dtype) for x in parts], -1)

    def init(self, rng: np.random.Generator) -> Params:
        """Returns initial parameters as in arXiv:1611.02779, section 2.3, each gate drawn apart:
        hidden-to-hidden weights orthogonal, other weights by `config.init`, biases zero. An LSTM's
        forget gate has bias 1, so that it remembers at first."""
        params = self.encoder.init(rng)
        gates = {"gru": 3, "lstm": 4}[self.cell]
        weight = partial(initial_weight, rng, init=self.config.init)
        own = [weight(self.size, self.encoder.sizes[-1]) for _ in range(gates)]
        params["cell.weight_ih"] = torch.cat(own)
        own = [weight(self.size, self.size, init="orthogonal") for _ in range(gates)]
        params["cell.weight_hh"] = torch.cat(own)
        for name in ("cell.bias_ih", "cell.bias_hh"):
            params[name] = torch.zeros(gates * self.size)
        if self.cell == "lstm":
            params["cell.bias_ih"][self.size : 2 * self.size] = 1.0
        params["value.weight"], params["value.bias"] = weight(1, self.size), torch.zeros(1)
        return {**params, **self.head.init(rng)}

    def empty_memory(self, *shape: int, like: Tensor) -> Memory:
        """Returns the memory at the start of a trial, [*shape, size] each: zero."""
        zeros = like.new_zeros(*shape, self.size)
        return (zeros,) if self.cell == "gru" else (zeros, zeros)

    def run(self, params: Params, inputs: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Runs the cell over inputs [N, T, obs_dim + before_dim] from `memory`, [N, size] each.

        Returns the cell's output at each step, [N, T, size], and the memory after the last step.
        """
        hidden = [x[None] for x in memory]
        weights, x = _cell(params), self._encoded(params, inputs)
        if self.cell == "gru" and not x.is_cuda and x.shape[1] > 1:
            outputs = Gru.apply(x.transpose(0, 1), *weights, *memory)
            return outputs.transpose(0, 1), (outputs[-1],)
        if self.cell == "gru":
            outputs, last = torch.gru(x, hidden[0], weights, True, 1, 0.0, True, False, True)
            return outputs, (last[0],)
        outputs, h, c = torch.lstm(x, hidden, weights, True, 1, 0.0, True, False, True)
        return outputs, (h[0], c[0])

    def after(self, params: Params, inputs: Tensor, lengths: Tensor, memory: Memory) -> Memory:
        """Returns the memory after the first `lengths` [N] steps (at least 1) of the inputs."""
        packed = pack_padded_sequence(
            self._encoded(params, inputs), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        x, sizes, order, back = packed
        assert order is not None  # row indices sorted by length
        assert back is not None  # the inverse permutation
        hidden, weights = [x[None, order] for x in memory], _cell(params)
        if self.cell == "gru":
            _, *last = torch.gru(x, sizes, hidden[0], weights, True, 1, 0.0, True, False)
        else:
            _, *last = torch.lstm(x, sizes, hidden, weights, True, 1, 0.0, True, False)
        return tuple(x[0, back] for x in last)

    def value(self, params: Params, outputs: Tensor) -> Tensor:
        """Returns values [..., N] for the cell's outputs, in the unit of the fitted targets."""
        return F.linear(outputs, params["value.weight"], params["value.bias"]).squeeze(-1)

    def _encoded(self, params: Params, inputs: Tensor) -> Tensor:
        x = self.encoder(params, inputs)
        return activated(x, self.config.activation) if self.encoder.layers else x


def _cell(params: Params) -> list[Tensor]:
    weights = [params[f"cell.{name}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    if not weights[0].is_cuda:
        return weights
    # cuDNN wants them in one block of memory; otherwise it warns and copies them at each call.
    whole = torch.cat([x.flatten() for x in weights]).split([x.numel() for x in weights])
    return [part.view_as(x) for part, x in zip(whole, weights, strict=True)]
