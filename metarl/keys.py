"""Random generators and seeds from keys, so that no generator's state is ever stored.

A key is (seed, purpose, counters...). Counters are the iteration, adaptation step, task, episode.
A resumed run, and a run with another number of workers, therefore draw the same numbers.

Different uses have different keys, because the purpose is always the second number, and each has
one use. Only RESET and NOISE, for episodes, have more: their third number is training's iteration,
or the `Phase` of other episodes. Within a use, keys must not differ only by zeros at the end: numpy
appends zeros to keys of fewer than four numbers (longer keys of different lengths do differ).
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
    TASK_CHECK = 10
    AGENT_CHECK = 11
    STEP_SIZE = 12
    MINIBATCHES = 13
    """Order of inner PPO's minibatches. Every run draws it with the seed 0."""


class Phase(IntEnum):
    """Purpose of episodes that training does not play; larger than any iteration.

    Evaluation of all tasks at once has `Purpose.EVALUATION` in this place instead, and one counter
    less than iteration 7 of training. Never renumber.
    """

    EVALUATION = 2**32 - 1
    """Evaluation of classes, in parts."""
    MODE = 2**32 - 2
    """Evaluation of the likeliest actions."""
    TRIAL = 2**32 - 3
    TASK_CHECK = 2**32 - 4
    AGENT_CHECK = 2**32 - 5
    TASK_ENV = 2**32 - 6
    """Episodes of one task that another library plays."""
    FILM = 2**32 - 12
    """Episodes that are filmed."""


def sequence(seed: int, purpose: Purpose, *counters: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, int(purpose), *counters])


def generator(seed: int, purpose: Purpose, *counters: int) -> np.random.Generator:
    """Returns a new generator for one key; equal keys give equal draws."""
    return np.random.Generator(np.random.PCG64(sequence(seed, purpose, *counters)))


def seed(seed: int, purpose: Purpose, *counters: int) -> int:
    """Returns a seed of 64 bits for one key."""
    return int(sequence(seed, purpose, *counters).generate_state(1, np.uint64)[0])


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
