"""Every random draw comes from a key, so no generator's state is ever stored.

A key is (seed, purpose, counters...): iteration, adaptation step, task, episode. A run that
resumes, and one with another number of workers, therefore draws the same numbers.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a draw is for. Values are part of every run's meaning: never renumber."""

    INIT = 1
    TASKS = 2
    RESET = 3
    NOISE = 4
    THINNING = 5
    EVALUATION_TASKS = 6
    EVALUATION = 7
    CONTROL = 8
    TRIAL = 9


def sequence(seed: int, purpose: Purpose, *counters: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, int(purpose), *counters])


def generator(seed: int, purpose: Purpose, *counters: int) -> np.random.Generator:
    """A fresh generator for one key; equal keys give equal draws."""
    return np.random.Generator(np.random.PCG64(sequence(seed, purpose, *counters)))


def seeds(num_tasks: int, episodes: int, seed: int, purpose: Purpose, *counters: int) -> np.ndarray:
    """A seed for each episode, [K, E] uint64; one of them needs none of the others."""
    words = [
        [
            sequence(seed, purpose, *counters, k, e).generate_state(1, np.uint64)
            for e in range(episodes)
        ]
        for k in range(num_tasks)
    ]
    return np.array(words, dtype=np.uint64).reshape(num_tasks, episodes)
