"""VariBAD's policy and its encoder in numpy, as `metarl/networks/belief.py` has them in torch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metarl.acting.families import Family
from metarl.acting.policy import Layer, MlpActing, Normal, Ready, ReadyLayer, activate
from metarl.acting.recurrent import Gates, Memory
from metarl.acting.torso import ReadyTorso, Torso
from metarl.acting.trials import RewardScale, of_episodes, scaled
from metarl.acting.units import Units


class BeliefActing(NamedTuple):
    """Parameters of a policy and an encoder, shared by all tasks, and what K x E trials remember.

    The policy reads the observation, and the means and log-variances of the belief.
    """

    obs: Layer
    """Embeds the observation that a step reached."""
    action: Layer
    reward: Layer
    cell: Gates
    """A GRU, which reads the embeddings."""
    posterior: Layer
    """Means and log-variances from the hidden state, [1, size, 2 latent]."""
    policy: MlpActing
    scale: RewardScale | None
    memory: Memory | None
    """The cell's, [K, e, size]; None: trials begin."""
    torso: Torso | None = None
    """Convolutions of the image that the encoder reads; the policy has its own."""

    @property
    def output_dim(self) -> int:
        return self.policy.output_dim

    @property
    def activation(self) -> str:
        """`relu` or `tanh`, in the policy."""
        return self.policy.activation

    @property
    def family(self) -> Family:
        """Distribution of the actions."""
        return self.policy.family

    @property
    def normal(self) -> Normal | None:
        """Normalisation of the observation and the belief, for the policy."""
        return self.policy.normal

    def of(self, units: Units) -> BeliefActing:
        if self.memory is None:
            return self
        return self._replace(memory=tuple(of_episodes(x, units) for x in self.memory))

    def ready(self, units: Units) -> Ready:
        return ReadyBelief(self, units)


class ReadyBelief:
    """A policy at some units; the hidden state of its encoder goes from step to step."""

    def __init__(self, acting: BeliefActing, units: Units):
        self._acting, self._policy = acting, acting.policy.ready(units)
        self._torso = acting.torso and ReadyTorso(acting.torso, units, "relu")
        self._embeddings = [
            ReadyLayer(layer, units) for layer in (acting.obs, acting.action, acting.reward)
        ]
        self._cell = acting.cell.ready(units, acting.memory)
        self._posterior = ReadyLayer(acting.posterior, units)
        self.actions: np.ndarray | None = None

    def __call__(
        self, obs: np.ndarray, rewards: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.actions is not None:
            self._cell.memory = self._encoded(obs, rewards)
        inputs = np.concatenate([obs, self._posterior(self._cell.memory[0])], -1)
        self.actions, output = self._policy(inputs, rewards, noise)
        return self.actions, output

    def after(self, rewards: np.ndarray, reached: np.ndarray | None = None) -> BeliefActing:
        """Returns the policy with the belief after the episode, whose last step had these
        `rewards` [U, e] and `reached` an observation [U, e, obs_dim]. Where that is None, the last
        step is left out of the belief."""
        memory = self._cell.memory if reached is None else self._encoded(reached, rewards)
        return self._acting._replace(memory=memory)

    def _encoded(self, reached: np.ndarray, rewards: np.ndarray) -> Memory:
        """Returns the encoder's memory after a step that led to the observation `reached`."""
        assert self.actions is not None
        action = self._acting.policy.family.encoded(self.actions).astype(np.float32, copy=False)
        seen = reached if self._torso is None else self._torso(reached)
        parts = (seen, action, scaled(rewards, self._acting.scale)[..., None])
        embedded = [
            activate(layer(x), "relu") for layer, x in zip(self._embeddings, parts, strict=True)
        ]
        return self._cell.after(np.concatenate(embedded, -1))
