"""A recurrent policy and value function with a common memory, as functions of parameters.

    inputs of a step -> embeddings, encoder (an MLP) -> cell -> MLP -> action distribution
                                                             -> MLP -> value

The cell is a GRU, an LSTM or a transformer. Sequences are [N, T, ...], one row for each trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.spaces import Box
from torch import Tensor

from metarl.config.settings import PolicyConfig
from metarl.networks.cells import Cell, Memory
from metarl.networks.mlp import Mlp, MlpPolicy, activated, initial_weight
from metarl.networks.torso import torso_of
from metarl.types import EnvSpec, Params

EMBEDDED = ("obs", "action", "reward")
"""Parts of the inputs that may have embeddings of their own."""


class RecurrentPolicy:
    """Acts on the observation and the previous step: its action, its reward and whether it ended
    an episode."""

    def __init__(
        self,
        spec: EnvSpec,
        policy: PolicyConfig,
        cell: Cell,
        embeddings: Sequence[int] = (),
        head: Sequence[int] = (),
    ):
        """`embeddings` are none, or the units of the three layers that read observation, action and
        reward; `head` are the units of the layers after the cell."""
        self.config, self.cell, size = policy, cell, cell.size
        memory = spec._replace(observation_space=Box(-1.0, 1.0, (size,)), image=None)
        self.head = MlpPolicy(memory, replace(policy, hidden=tuple(head), context=0, torso="flat"))
        """Maps the cell's outputs [..., N, size] to action distributions."""
        self.valuer = Mlp((size, *head), policy.activation, policy.init, "value_layer")
        self.before_dim = self.head.noise_dim + 2
        read, torso = (spec.obs_dim + self.before_dim,), torso_of(spec, policy)
        self.seen = Mlp(read, policy.activation, policy.init, "seen", torso)
        """The torso where observations begin with an image; it has no other layer."""
        self.parts = (self.seen.sizes[0] - self.before_dim, self.head.noise_dim, 2)
        """Widths of the inputs: observation, last action, its reward with the episode's end."""
        self.embeddings = {
            name: Mlp((width, units), policy.activation, policy.init, f"embedding.{name}")
            for name, width, units in zip(EMBEDDED, self.parts, embeddings, strict=False)
        }
        sizes = (sum(embeddings) or sum(self.parts), *policy.hidden)
        self.encoder = Mlp(sizes, policy.activation, policy.init, "encoder")

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
        """Returns initial parameters: weights by `config.init`, biases zero, and those of the
        cell."""
        params = self.seen.init(rng)
        for embedding in self.embeddings.values():
            params |= embedding.init(rng)
        params |= self.encoder.init(rng)
        params |= self.cell.init(rng, self.encoder.sizes[-1], self.config.init)
        params |= self.valuer.init(rng)
        value = initial_weight(rng, 1, self.valuer.sizes[-1], self.config.init)
        params["value.weight"], params["value.bias"] = value, torch.zeros(1)
        return {**params, **self.head.init(rng)}

    def empty_memory(self, *shape: int, like: Tensor) -> Memory:
        """Returns the memory at the start of a trial, [*shape, ...] each."""
        return self.cell.empty(*shape, like=like)

    def run(self, params: Params, inputs: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Runs the cell over inputs [N, T, obs_dim + before_dim] from `memory`, [N, ...] each.

        Returns the cell's output at each step, [N, T, size], and the memory after the last step.
        """
        return self.cell.run(params, self._encoded(params, inputs), memory)

    def after(self, params: Params, inputs: Tensor, lengths: Tensor, memory: Memory) -> Memory:
        """Returns the memory after the first `lengths` [N] steps (at least 1) of the inputs."""
        return self.cell.after(params, self._encoded(params, inputs), lengths, memory)

    def value(self, params: Params, outputs: Tensor) -> Tensor:
        """Returns values [..., N] for the cell's outputs, in the unit of the fitted targets."""
        x = self._through(self.valuer, params, outputs)
        return F.linear(x, params["value.weight"], params["value.bias"]).squeeze(-1)

    def _encoded(self, params: Params, inputs: Tensor) -> Tensor:
        inputs = self.seen(params, inputs)
        if self.embeddings:
            parts = zip(self.embeddings.values(), inputs.split(self.parts, -1), strict=True)
            embedded = torch.cat([embedding(params, x) for embedding, x in parts], -1)
            inputs = activated(embedded, self.config.activation)
        return self._through(self.encoder, params, inputs)

    def _through(self, network: Mlp, params: Params, inputs: Tensor) -> Tensor:
        """Returns the last layer's activations; the inputs where there is no layer."""
        x = network(params, inputs)
        return activated(x, self.config.activation) if network.layers else x
