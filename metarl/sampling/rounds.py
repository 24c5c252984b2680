"""Playing tasks before and after each adaptation step: the one inner loop of the project."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from metarl.device import torch_threads
from metarl.sampling.collect import collect, draw
from metarl.types import Agent, BatchedEnv, EnvSpec, Task, Trajectories


def adaptation_rounds(
    agent: Agent,
    env: BatchedEnv,
    spec: EnvSpec,
    tasks: Sequence[Task],
    episodes: int,
    steps: int,
    key: tuple[int, ...],
    device: torch.device,
) -> tuple[Any, list[Trajectories]]:
    """Every task from the meta-parameters: `steps` + 1 rounds of fresh episodes, a step between.

    Returns the tasks' state after the last step, and the rounds. `key` is (seed, counters...) of
    all chance in it; round r has the key (*key, r).

    Raises:
        DivergedError: where a simulation became unstable.
    """
    env.set_tasks(tasks)
    state, rounds = agent.begin(), []
    for index in range(steps + 1):
        if rounds:
            state = agent.adapt(state, rounds[-1])
        draws = draw(spec, len(tasks), episodes, agent.noise, *key, index)
        with torch_threads(1):  # more of them would spin on the simulations' cores
            rounds.append(collect(env, partial(agent.act, state), draws, spec, device))
    return state, rounds
