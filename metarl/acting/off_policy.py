"""A recurrent actor with a way past its memory, in numpy; see `metarl/networks/off_policy.py`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metarl.acting.families import Family
from metarl.acting.policy import Layer, Normal, Ready, ReadyLayer, activate, through
from metarl.acting.recurrent import Gates, Memory
from metarl.acting.torso import ReadyTorso, Torso
from metarl.acting.trials import PreviousStep, RewardScale, of_episodes
from metarl.acting.units import Units


class OffPolicyActing(NamedTuple):
    """Parameters of the actor, shared by all tasks, and what K x E trials remember."""

    embed: Layer
    cell: Gates
    """A GRU."""
    now: Layer
    """The way past the memory, from the observation."""
    head: tuple[Layer, ...]
    activation: str
    family: Family
    normal: Normal | None
    scale: RewardScale | None
    memory: Memory | None
    """The cell's, [K, e, size]; None: trials begin."""
    before: np.ndarray | None  # [K, e, before_dim]: last action, its reward, whether it ended
    before_dim: int
    torso: Torso | None = None
    """Convolutions of the image, before both ways."""

    @property
    def output_dim(self) -> int:
        return self.head[-1].weight.shape[2]

    def of(self, units: Units) -> OffPolicyActing:
        if self.memory is None or self.before is None:
            return self
        memory = tuple(of_episodes(x, units) for x in self.memory)
        return self._replace(memory=memory, before=of_episodes(self.before, units))

    def ready(self, units: Units) -> Ready:
        return ReadyOffPolicy(self, units)


class ReadyOffPolicy:
    """The actor at some units; its memory goes from step to step."""

    def __init__(self, acting: OffPolicyActing, units: Units):
        self._acting = acting
        self._torso = acting.torso and ReadyTorso(acting.torso, units, "relu")
        self._embed, self._now = (ReadyLayer(x, units) for x in (acting.embed, acting.now))
        self._cell = acting.cell.ready(units, acting.memory)
        self._head = [ReadyLayer(layer, units) for layer in acting.head]
        self.actions: np.ndarray | None = None
        self._previous = PreviousStep(
            acting.family, acting.scale, units, acting.before_dim, acting.before
        )

    def __call__(
        self, obs: np.ndarray, rewards: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        acting, before = self._acting, self._previous(self.actions, rewards)
        seen = obs if acting.normal is None else acting.normal(obs)
        seen = seen if self._torso is None else self._torso(seen)
        memory = self._cell(activate(self._embed(np.concatenate([seen, before], -1)), "relu"))
        now = activate(self._now(seen), "relu")
        output = through(self._head, np.concatenate([memory, now], -1), acting.activation)
        self.actions = acting.family.sample(output, noise, None)
        return self.actions, output

    def after(self, rewards: np.ndarray, reached: np.ndarray | None = None) -> OffPolicyActing:
        """Returns the policy with what is remembered after the episode, whose last step had these
        `rewards` [U, e]. It reads no observation after the last step."""
        return self._acting._replace(
            memory=self._cell.memory, before=self._previous.at_end(self.actions, rewards)
        )
