"""A recurrent policy in numpy, as `metarl/networks/recurrent.py` has it in torch."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np

from metarl.acting.attention import Attention
from metarl.acting.families import Family
from metarl.acting.policy import Layer, Normal, Ready, ReadyLayer, activate, deviation, through
from metarl.acting.torso import ReadyTorso, Torso
from metarl.acting.trials import PreviousStep, RewardScale, of_episodes
from metarl.acting.units import Units

Memory: TypeAlias = tuple[np.ndarray, ...]
"""State of a cell, [U, e, ...] each: h [size] of a GRU, h and c of an LSTM."""


class Gates(NamedTuple):
    """A GRU or an LSTM."""

    kind: str
    """`gru` or `lstm`."""
    inputs: Layer
    """Gates from the encoded inputs, [1, in, gates size]."""
    hidden: Layer
    """Gates from the hidden state, [1, size, gates size]."""

    @property
    def size(self) -> int:
        return self.hidden.weight.shape[1]

    def ready(self, units: Units, memory: Memory | None) -> ReadyGates:
        return ReadyGates(self, units, memory)


class ReadyGates:
    """A GRU or an LSTM at some units."""

    def __init__(self, gates: Gates, units: Units, memory: Memory | None):
        self._inputs, self._hidden = (ReadyLayer(x, units) for x in (gates.inputs, gates.hidden))
        self._step = gru if gates.kind == "gru" else lstm
        empty = np.zeros((len(units), units.size, gates.size), np.float32)
        self.memory = memory or (empty,) * (1 if gates.kind == "gru" else 2)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Returns the output [U, e, size] at the next inputs [U, e, in]."""
        self.memory = self.after(x)
        return self.memory[0]

    def after(self, x: np.ndarray) -> Memory:
        """Returns the memory after the next inputs [U, e, in], and keeps its own."""
        return self._step(self._inputs(x), self._hidden(self.memory[0]), self.memory)


class RecurrentActing(NamedTuple):
    """Parameters of a recurrent policy, shared by all tasks, and what K x E trials remember."""

    encoder: tuple[Layer, ...]
    cell: Gates | Attention
    head: tuple[Layer, ...]
    activation: str
    family: Family
    normal: Normal | None
    scale: RewardScale | None
    memory: Memory | None
    """The cell's, [K, e, ...] each; None: trials begin."""
    before: np.ndarray | None  # [K, e, before_dim]: last action, its reward, whether it ended
    before_dim: int
    torso: Torso | None = None

    @property
    def output_dim(self) -> int:
        return self.head[-1].weight.shape[2]

    def of(self, units: Units) -> RecurrentActing:
        if self.memory is None or self.before is None:
            return self
        memory = tuple(of_episodes(x, units) for x in self.memory)
        return self._replace(memory=memory, before=of_episodes(self.before, units))

    def ready(self, units: Units) -> Ready:
        return ReadyRecurrent(self, units)


class ReadyRecurrent:
    """A recurrent policy at some units; its memory goes from step to step."""

    def __init__(self, acting: RecurrentActing, units: Units):
        self._acting = acting
        self._torso = acting.torso and ReadyTorso(acting.torso, units, acting.activation)
        self._encoder = [ReadyLayer(layer, units) for layer in acting.encoder]
        self._cell = acting.cell.ready(units, acting.memory)
        self._head = [ReadyLayer(layer, units) for layer in acting.head]
        self._std = deviation(acting.family, units)
        self.actions: np.ndarray | None = None
        self._previous = PreviousStep(
            acting.family, acting.scale, units, acting.before_dim, acting.before
        )

    def __call__(
        self, obs: np.ndarray, rewards: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        acting, before = self._acting, self._previous(self.actions, rewards)
        x = obs if acting.normal is None else acting.normal(obs)
        x = np.concatenate([x if self._torso is None else self._torso(x), before], -1)
        for layer in self._encoder:
            x = activate(layer(x), acting.activation)
        output = through(self._head, self._cell(x), acting.activation)
        self.actions = acting.family.sample(output, noise, self._std)
        return self.actions, output

    def after(self, rewards: np.ndarray, reached: np.ndarray | None = None) -> RecurrentActing:
        """Returns the policy with what is remembered after the episode, whose last step had these
        `rewards` [U, e]. It reads no observation after the last step."""
        return self._acting._replace(
            memory=self._cell.memory, before=self._previous.at_end(self.actions, rewards)
        )


def gru(
    of_inputs: np.ndarray, of_hidden: np.ndarray, memory: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, ...]:
    """Returns the next memory of a GRU (arXiv:1406.1078), gates in torch's order: r, z, n."""
    (before,) = memory
    size = before.shape[-1]
    both = of_inputs[..., : 2 * size] + of_hidden[..., : 2 * size]
    r, z = np.split(sigmoid(both), 2, axis=-1)
    new = np.tanh(of_inputs[..., 2 * size :] + r * of_hidden[..., 2 * size :])
    return (new + z * (before - new),)


def lstm(
    of_inputs: np.ndarray, of_hidden: np.ndarray, memory: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, ...]:
    """Returns the next memory of an LSTM, gates in torch's order: i, f, g, o."""
    _, cell = memory
    i, f, g, o = np.split(of_inputs + of_hidden, 4, axis=-1)
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(cell), cell


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Returns 1 / (1 + exp(-x)) as (1 + tanh(x / 2)) / 2, which never overflows."""
    return np.float32(0.5) * (np.float32(1.0) + np.tanh(np.float32(0.5) * x))
