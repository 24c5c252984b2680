"""Rounds of a few meta-batches, and the warnings of lost workers while they are played."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from metarl import keys
from metarl.agents import catalogue as agents
from metarl.experiments.presets import blank
from metarl.sampling.losses import WorkerWarning
from metarl.sampling.rounds import adaptation_rounds
from metarl.sampling.sampler import Sampler
from metarl.types import TaskDistribution, Trajectories, Workers

K, E = 3, 4
CPU = torch.device("cpu")


def agent_of(name: str, distribution: TaskDistribution) -> Any:
    config = blank(name, "point-goal").agent
    rng = keys.generator(1, keys.Purpose.INIT)
    return agents.build(distribution.spec, config, rng, CPU, None)


def play(agent: Any, distribution: TaskDistribution, env: Sampler, index: int) -> list:
    tasks = distribution.sample(K, np.random.default_rng(index))
    _, rounds = adaptation_rounds(
        agent, env, distribution.spec, tasks, E, agent.steps, (1, index), CPU
    )
    return rounds


def played(agent: Any, distribution: TaskDistribution, workers: Workers) -> list[Trajectories]:
    """The rounds of two meta-batches."""
    env = Sampler(distribution, K, E, workers)
    try:
        return [one for index in range(2) for one in play(agent, distribution, env, index)]
    finally:
        env.close()


def content(rounds: list[Trajectories]) -> bytes:
    tensors = [x for one in rounds for x in (*one[:8], *one.behaviour)]
    return b"".join(x.contiguous().numpy().tobytes() for x in tensors)


@contextmanager
def warned() -> Iterator[list[str]]:
    """The messages of the warnings of losses."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        messages: list[str] = []
        yield messages
    messages += [str(one.message) for one in caught if one.category is WorkerWarning]
