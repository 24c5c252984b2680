"""Random numbers of episodes, each from its own key, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metarl import keys

KINDS = ("normal", "gumbel", "zero")
BLOCK = 512
"""Steps whose noise is drawn together; most episodes are shorter, whatever their horizon."""
NUMBERS = 1 << 22
"""The most numbers that are drawn together, of all episodes."""


class RoundDraws(NamedTuple):
    """The random numbers of a round by their key; a worker draws those of its episodes."""

    shape: tuple[int, int]
    """(K, E)."""
    kind: str
    """Kind of the noise that actions are sampled with: normal, gumbel or zero."""
    width: int
    """Noise numbers in an action."""
    key: tuple[int, ...]
    """(seed, counters...)."""
    steps: int
    """The most steps that are played."""

    def seeds(self, places: Sequence[tuple[int, int]]) -> np.ndarray:
        """Returns the seed of each episode's reset, [N] uint64, for (task, episode) of each."""
        seed, *counters = self.key
        return np.array(
            [keys.seed(seed, keys.Purpose.RESET, *counters, *place) for place in places], np.uint64
        )

    def noise(self, places: Sequence[tuple[int, int]]) -> EpisodeNoise:
        return EpisodeNoise(self, places)


class EpisodeNoise:
    """Noise of some episodes, drawn as far as they go."""

    def __init__(self, draws: RoundDraws, places: Sequence[tuple[int, int]]):
        self._draws, self._first, self._drawn = draws, 0, 0
        seed, *counters = draws.key
        self._generators = [
            keys.generator(seed, keys.Purpose.NOISE, *counters, *place)
            for place in places
            if draws.kind != "zero"
        ]
        self._block = np.zeros((1, len(places), draws.width), np.float32)

    def at(self, step: int) -> np.ndarray:
        """Returns the noise of a step, [N, width]; steps are asked for in order."""
        if self._draws.kind == "zero":
            return self._block[0]
        if step == self._drawn:
            fitting = max(1, NUMBERS // max(1, self._block[0].size))
            shape = (min(BLOCK, fitting, self._draws.steps - step), self._draws.width)
            self._block = noise_block(self._generators, shape, self._draws.kind)
            self._first, self._drawn = step, step + shape[0]
        return self._block[step - self._first]


def noise_block(
    generators: Sequence[np.random.Generator], shape: tuple[int, int], kind: str
) -> np.ndarray:
    """Returns the next noise of each generator, [steps, N, width] for `shape` (steps, width)."""
    values = np.empty((len(generators), *shape), np.float32)
    for own, rng in zip(values, generators, strict=True):
        if kind == "normal":
            rng.standard_normal(dtype=np.float32, out=own)
        else:
            own[:] = rng.gumbel(size=shape)
    return np.ascontiguousarray(values.transpose(1, 0, 2))
