"""Policies in numpy, which worker processes evaluate: they need no torch, and start fast.

An agent makes an `Acting` for each round. It holds parameters alone, [K, ...] or [1, ...] where all
tasks share them, and is sent to the workers. `Acting.of(units)` selects the parameters of a share,
and `Acting.ready(units)` gives the policy of those units, which acts step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from metarl.acting.families import Family
from metarl.acting.layers import Layer, ReadyLayer, activate, of_units
from metarl.acting.torso import ReadyTorso, Torso
from metarl.acting.units import Units


class Ready(Protocol):
    """Policy of some units, which may remember the earlier steps of their episodes."""

    def __call__(
        self, obs: np.ndarray, rewards: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns actions [U, e, act_dim] and the network's outputs [U, e, output_dim].

        Args:
            obs: [U, e, obs_dim] float32; zero after the end of an episode.
            rewards: [U, e] of the previous step; not read at the first step.
            noise: [U, e, n] float32.
        """
        ...


class Acting(Protocol):
    """Parameters of a policy for K tasks."""

    @property
    def output_dim(self) -> int:
        """Count of numbers in the network's output, from which the agent makes distributions."""
        ...

    def of(self, units: Units) -> Acting:
        """Returns the parameters of the units' tasks."""
        ...

    def ready(self, units: Units) -> Ready:
        """Returns the policy of the units, before their first step."""
        ...


class Normal(NamedTuple):
    """Normalisation of observations: centred, divided by their deviation, clipped; in float64."""

    mean: np.ndarray
    deviation: np.ndarray
    clip: float

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        normal = (obs - self.mean) / self.deviation
        return np.clip(normal, -self.clip, self.clip).astype(np.float32)


class MlpActing(NamedTuple):
    """Parameters of an MLP policy."""

    layers: tuple[Layer, ...]
    activation: str
    family: Family
    normal: Normal | None
    torso: Torso | None = None
    """Convolutions before the layers, where observations begin with an image."""

    @property
    def output_dim(self) -> int:
        return self.layers[-1].weight.shape[2]

    def of(self, units: Units) -> MlpActing:
        tasks = units.tasks
        layers = tuple(layer.of(tasks) for layer in self.layers)
        torso = self.torso and self.torso.of(tasks)
        return self._replace(layers=layers, family=self.family.of(tasks), torso=torso)

    def ready(self, units: Units) -> Ready:
        return ReadyMlp(self, units)


class ReadyMlp:
    """An MLP policy at some units; it reads the current observation alone."""

    def __init__(self, acting: MlpActing, units: Units):
        self._acting = acting
        self._torso = acting.torso and ReadyTorso(acting.torso, units, acting.activation)
        self._layers = [ReadyLayer(layer, units) for layer in acting.layers]
        self._std = deviation(acting.family, units)

    def __call__(
        self, obs: np.ndarray, rewards: np.ndarray, noise: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        acting = self._acting
        x = obs if acting.normal is None else acting.normal(obs)
        x = x if self._torso is None else self._torso(x)
        output = through(self._layers, x, acting.activation)
        return acting.family.sample(output, noise, self._std), output


def through(layers: Sequence[ReadyLayer], x: np.ndarray, activation: str) -> np.ndarray:
    """Returns the last layer's output, with activations between the layers."""
    for layer in layers[:-1]:
        x = activate(layer(x), activation)
    return layers[-1](x)


def deviation(family: Family, units: Units) -> np.ndarray | None:
    """Returns the deviation of each unit, [U or 1, 1, act_dim]; None if it is no parameter."""
    std = family.deviation()
    return None if std is None else of_units(std, units)
