"""Random generators and seeds from keys, so that no generator's state is ever stored.

A key is (seed, purpose, counters...). Counters are the iteration, adaptation step, task, episode.
A resumed run, and a run with another number of workers, therefore draw the same numbers.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """Purpose of a draw. Never renumber: all draws of existing runs would change."""

    INIT = 1
    TASKS = 2
    RESET = 3
    NOISE = 4
    THINNING = 5
    EVALUATION_TASKS = 6
    EVALUATION = 7
    CONTROL = 8
    TRIAL = 9
    STEP_SIZE = 10


def sequence(seed: int, purpose: Purpose, *counters: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, int(purpose), *counters])


def generator(seed: int, purpose: Purpose, *counters: int) -> np.random.Generator:
    """Returns a new generator for one key; equal keys give equal draws."""
    return np.random.Generator(np.random.PCG64(sequence(seed, purpose, *counters)))


def seeds(num_tasks: int, episodes: int, seed: int, purpose: Purpose, *counters: int) -> np.ndarray:
    """Returns a seed for each episode, [K, E] uint64; each depends on its own key alone."""
    words = [
        [
            sequence(seed, purpose, *counters, k, e).generate_state(1, np.uint64)
            for e in range(episodes)
        ]
        for k in range(num_tasks)
    ]
    return np.array(words, dtype=np.uint64).reshape(num_tasks, episodes)
