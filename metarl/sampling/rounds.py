"""Inner loop of meta-RL: collects episodes of tasks and adapts to them, in rounds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metarl.device import torch_sleeps, torch_threads
from metarl.equations.distributions import ActionDistribution
from metarl.errors import UnstableError
from metarl.sampling.collect import Draws, collect, draw
from metarl.types import Actor, Agent, BatchedEnv, EnvSpec, Task, Trajectories


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
    """Plays `steps` + 1 rounds of fresh episodes, with an adaptation step between rounds.

    All tasks start at the meta-parameters. Returns the tasks' state after the last step, and the
    rounds. `key` is (seed, counters...) of all randomness; round r has the key (*key, r).

    Raises:
        DivergedError: if a simulation became unstable.
        EnvFaultError: for an observation or a reward that is not finite.
        UnstableError: if the policy's actions are no longer finite.
    """
    env.set_tasks(tasks)
    play = _Play(agent, spec, tasks, device)
    state, rounds = agent.begin(), []
    for index in range(steps + 1):
        if rounds:
            state = agent.adapt(state, rounds[-1])
        draws = draw(spec, len(tasks), episodes, agent.noise, *key, index)
        rounds.append(play(env, state, index, draws))
    return state, rounds


def greedy_rounds(
    agent: Agent,
    env: BatchedEnv,
    mode_env: BatchedEnv,
    spec: EnvSpec,
    tasks: Sequence[Task],
    episodes: int,
    mode_episodes: int,
    steps: int,
    key: tuple[int, ...],
    mode_key: tuple[int, ...],
    device: torch.device,
) -> tuple[list[Trajectories], list[Trajectories]]:
    """Plays `steps` rounds to adapt to, as above, and `steps` + 1 rounds of likeliest actions.

    Those rounds are played before the first step and after each; no task learns from them.
    `mode_env` is opened for `mode_episodes`, whose key is `mode_key`. They do not change the
    episodes that are learned from.
    """
    env.set_tasks(tasks)
    mode_env.set_tasks(tasks)
    play = _Play(agent, spec, tasks, device)
    state, rounds, shown = agent.begin(), [], []
    for index in range(steps + 1):
        draws = draw(spec, len(tasks), mode_episodes, ("zero", agent.noise[1]), *mode_key, index)
        shown.append(play(mode_env, state, index, draws))
        if index < steps:
            draws = draw(spec, len(tasks), episodes, agent.noise, *key, index)
            rounds.append(play(env, state, index, draws))
            state = agent.adapt(state, rounds[-1])
    return rounds, shown


class _Play(NamedTuple):
    """Plays one round of episodes, from draws and the tasks' state after `index` steps."""

    agent: Agent
    spec: EnvSpec
    tasks: Sequence[Task]
    device: torch.device

    def __call__(self, env: BatchedEnv, state: Any, index: int, draws: Draws) -> Trajectories:
        # While simulations run, more torch threads would spin on their cores.
        idle = getattr(env, "idle_while_acting", False) and torch_sleeps()
        with nullcontext() if idle else torch_threads(1):
            return collect(
                env,
                lambda episodes: _FiniteActor(self.agent.actor(state, episodes), index),
                draws,
                self.spec,
                self.device,
                self.tasks,
            )


class _FiniteActor(NamedTuple):
    """Actor that checks the outputs of a policy after `steps` adaptation steps."""

    actor: Actor
    steps: int

    def __call__(
        self, obs: Tensor, rewards: Tensor | None, noise: Tensor
    ) -> tuple[Tensor, ActionDistribution]:
        actions, distribution = self.actor(obs, rewards, noise)
        if not all(bool(x.isfinite().all()) for x in (actions, *distribution)):
            raise UnstableError(
                f"the policy after {self.steps} adaptation steps gives numbers that are not "
                f"finite; lower {'--agent.inner.lr' if self.steps else 'the outer step size'}"
            )
        return actions, distribution
