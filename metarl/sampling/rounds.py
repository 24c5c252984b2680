"""Inner loop of meta-RL: collects episodes of tasks and adapts to them, in rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from metarl.errors import UnstableError
from metarl.sampling.draws import RoundDraws
from metarl.sampling.sampler import Sampler, play_stepwise, unstable
from metarl.types import Agent, BatchedEnv, EnvSpec, Task, Trajectories

LARGE_REWARD = 1e15
"""Magnitude of a reward from which squares and sums in an adaptation step leave float32."""


def adaptation_rounds(
    agent: Agent,
    env: BatchedEnv | Sampler,
    spec: EnvSpec,
    tasks: Sequence[Task],
    episodes: int,
    steps: int,
    key: tuple[int, ...],
    device: torch.device,
    after: Callable[[int], object] = int,
) -> tuple[Any, list[Trajectories]]:
    """Plays `steps` + 1 rounds of fresh episodes, with an adaptation step between rounds.

    All tasks start at the meta-parameters. Returns the tasks' state after the last step, and the
    rounds. `key` is (seed, counters...) of all randomness; round r has the key (*key, r), and
    `after` is called with r at its end.

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
        draws = play.draws(episodes, agent.noise, key, index)
        try:
            rounds.append(play(env, state, index, draws))
        except UnstableError as error:
            largest = max((float(x.rewards.abs().max()) for x in rounds), default=0.0)
            if largest < LARGE_REWARD:
                raise
            raise unstable(index, f"rewards up to {largest:.3g}") from error
        after(index)
    return state, rounds


def greedy_rounds(
    agent: Agent,
    env: BatchedEnv | Sampler,
    mode_env: BatchedEnv | Sampler,
    spec: EnvSpec,
    tasks: Sequence[Task],
    episodes: int,
    mode_episodes: int,
    steps: int,
    key: tuple[int, ...],
    mode_key: tuple[int, ...],
    device: torch.device,
    after: Callable[[int], object] = int,
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
        draws = play.draws(mode_episodes, ("zero", agent.noise[1]), mode_key, index)
        shown.append(play(mode_env, state, index, draws))
        if index < steps:
            draws = play.draws(episodes, agent.noise, key, index)
            rounds.append(play(env, state, index, draws))
            state = agent.adapt(state, rounds[-1])
        after(index)
    return rounds, shown


class _Play(NamedTuple):
    """Plays one round of episodes, from the tasks' state after `index` steps."""

    agent: Agent
    spec: EnvSpec
    tasks: Sequence[Task]
    device: torch.device

    def __call__(
        self, env: BatchedEnv | Sampler, state: Any, index: int, draws: RoundDraws
    ) -> Trajectories:
        if isinstance(env, Sampler):
            return env.play(self.agent, state, index, draws, self.device)
        return play_stepwise(
            env, self.agent, state, index, draws, self.spec, self.device, self.tasks
        )

    def draws(
        self, episodes: int, noise: tuple[str, int], key: tuple[int, ...], index: int
    ) -> RoundDraws:
        shape = len(self.tasks), episodes
        return RoundDraws(shape, *noise, (*key, index), self.spec.horizon)
