"""A recurrent actor with a way past its memory, in numpy; see `metarl/networks/off_policy.py`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metarl.acting.families import Family
from metarl.acting.policy import Layer, Normal, Ready, ReadyLayer, activate, through
from metarl.acting.recurrent import RewardScale, gru, of_episodes
from metarl.acting.units import Units


class OffPolicyActing(NamedTuple):
    """Parameters of the actor, shared by all tasks, and what K x E trials remember."""

    embed: Layer
    inputs: Layer
    """Gates from the embedded inputs, [1, in, 3 size]."""
    hidden: Layer
    """Gates from the memory, [1, size, 3 size]."""
    now: Layer
    """The way past the memory, from the observation."""
    head: tuple[Layer, ...]
    activation: str
    family: Family
    normal: Normal | None
    scale: RewardScale | None
    memory: np.ndarray | None  # [K, e, size]; None: trials begin
    before: np.ndarray | None  # [K, e, before_dim]: last action, its reward, whether it ended
    before_dim: int

    @property
    def output_dim(self) -> int:
        return self.head[-1].weight.shape[2]

    def of(self, units: Units) -> OffPolicyActing:
        if self.memory is None or self.before is None:
            return self
        memory, before = (of_episodes(x, units) for x in (self.memory, self.before))
        return self._replace(memory=memory, before=before)

    def ready(self, units: Units) -> Ready:
        return ReadyOffPolicy(self, units)


class ReadyOffPolicy:
    """The actor at some units; its memory goes from step to step."""

    def __init__(self, acting: OffPolicyActing, units: Units):
        self._acting = acting
        layers = (acting.embed, acting.inputs, acting.hidden, acting.now)
        self._embed, self._inputs, self._hidden, self._now = (ReadyLayer(x, units) for x in layers)
        self._head = [ReadyLayer(layer, units) for layer in acting.head]
        grid, size = (len(units), units.size), acting.hidden.weight.shape[1]
        empty, nothing = ((*grid, n) for n in (size, acting.before_dim))
        self._memory = np.zeros(empty, np.float32) if acting.memory is None else acting.memory
        self._before = np.zeros(nothing, np.float32) if acting.before is None else acting.before
        self._actions: np.ndarray | None = None

    def __call__(
        self, obs: np.ndarray, rewards: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        acting = self._acting
        if self._actions is not None:
            self._before = self._described(self._actions, rewards)
        seen = obs if acting.normal is None else acting.normal(obs)
        x = activate(self._embed(np.concatenate([seen, self._before], -1)), "relu")
        (self._memory,) = gru(self._inputs(x), self._hidden(self._memory), (self._memory,))
        now = activate(self._now(seen), "relu")
        output = through(self._head, np.concatenate([self._memory, now], -1), acting.activation)
        self._actions = acting.family.sample(output, noise, None)
        return self._actions, output

    @property
    def begun(self) -> bool:
        """Whether it has acted."""
        return self._actions is not None

    def after(self, rewards: np.ndarray) -> OffPolicyActing:
        """Returns the policy with what is remembered after the episode, whose last step had these
        `rewards` [U, e]."""
        assert self._actions is not None
        before = self._described(self._actions, rewards)
        before[..., -1] = 1.0
        return self._acting._replace(memory=self._memory, before=before)

    def _described(self, actions: np.ndarray, rewards: np.ndarray) -> np.ndarray:
        """Returns the inputs that describe the previous step, within an episode."""
        scale = self._acting.scale
        scaled = rewards if scale is None else scale(rewards)
        parts = [self._acting.family.encoded(actions), scaled[..., None]]
        return np.concatenate([*parts, np.zeros_like(parts[1])], -1, dtype=np.float32)
