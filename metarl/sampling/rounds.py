"""Playing tasks before and after each adaptation step: the one inner loop of the project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from metarl.device import torch_threads
from metarl.equations.distributions import ActionDistribution
from metarl.errors import UserError
from metarl.sampling.collect import Act, collect, draw
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
        EnvFaultError: for an observation or a reward that is not finite.
        UserError: where the policy's actions are no numbers any more.
    """
    env.set_tasks(tasks)
    state, rounds = agent.begin(), []
    for index in range(steps + 1):
        if rounds:
            state = agent.adapt(state, rounds[-1])
        draws = draw(spec, len(tasks), episodes, agent.noise, *key, index)
        with torch_threads(1):  # more of them would spin on the simulations' cores
            act = _finite(agent, state, index)
            rounds.append(collect(env, act, draws, spec, device, tasks))
    return state, rounds


def _finite(agent: Agent, state: Any, steps: int) -> Act:
    """`agent.act` for tasks after `steps` adaptation steps, whose output is looked at."""

    def act(obs: Tensor, noise: Tensor) -> tuple[Tensor, ActionDistribution]:
        actions, distribution = agent.act(state, obs, noise)
        if not all(bool(x.isfinite().all()) for x in distribution):
            raise UserError(
                f"the policy after {steps} adaptation steps gives numbers that are not finite; "
                "lower the inner learning rate, --agent.inner.lr"
            )
        return actions, distribution

    return act
