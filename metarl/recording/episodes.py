"""Plays the episodes that are filmed: each task's, after some numbers of adaptation steps.

Tasks adapt as in an evaluation: from the meta-parameters, on episodes of the same seeds. The
filmed episodes are others. They all start from one reset seed for each task and have the same
noise of actions, so that panels side by side differ by the adaptation alone. A task does not learn
from them. An agent with a memory, as RL2, remembers the episodes of its trial in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np
import torch

from metarl import keys
from metarl.errors import DivergedError, UnstableError
from metarl.recording.options import RecordOptions
from metarl.sampling.collect import returns_of
from metarl.sampling.draws import RoundDraws
from metarl.sampling.sampler import Place, Sampler
from metarl.types import Agent, Classes, Task, TaskDistribution, Trajectories, Workers


class Episode(NamedTuple):
    """One episode that is filmed, of T steps."""

    task: Task
    label: str
    step: int
    """Adaptation steps before it."""
    reset_seed: int
    obs: np.ndarray  # [T + 1, obs_dim]
    actions: np.ndarray  # [T, act_dim] as sampled
    rewards: np.ndarray  # [T]
    returned: float
    """Undiscounted return."""
    solved_at: int
    """First step solved, from 1; 0 if none was."""
    truncated: bool
    """Whether the time limit ended it."""

    @property
    def length(self) -> int:
        return len(self.rewards)

    @property
    def so_far(self) -> np.ndarray:
        """Return after each number of steps, [T + 1]."""
        return np.concatenate([[0.0], np.cumsum(self.rewards, dtype=np.float64)])


def first_tasks(tasks: TaskDistribution, number: int, split: str, seed: int, of: int) -> list[Task]:
    """Returns the first of the tasks that an evaluation with this seed adapts to.

    Of classes these are the first goals, in turn over the classes. `of` is the evaluation's own
    number of tasks, since a draw may depend on it.
    """
    if isinstance(tasks, Classes):
        goals = -(-number // tasks.spread(split))
        found = tasks.held_out(goals, split)
        return [task for goal in range(goals) for task in found[goal::goals]][:number]
    rng = keys.generator(seed, keys.Purpose.EVALUATION_TASKS)
    return list(tasks.sample(max(number, of), rng, split))[:number]


def play(
    agent: Agent,
    distribution: TaskDistribution,
    tasks: Sequence[Task],
    options: RecordOptions,
    workers: Workers,
    act_on: Place,
    device: torch.device,
) -> list[list[Episode]]:
    """Returns the filmed episodes [task][step]; `distribution` is that which the agent observes.

    Raises:
        UnstableError: where a simulation diverged.
    """
    shape, spec = (len(tasks), 1), distribution.spec
    kind, width = agent.noise
    film = RoundDraws(
        shape, "zero" if options.actions == "likeliest" else kind, width, film_key(options.seed),
        spec.horizon,
    )  # fmt: skip
    seeds = film.seeds([(k, 0) for k in range(len(tasks))]).tolist()
    found: list[list[Episode]] = [[] for _ in tasks]
    with ExitStack() as stack:
        learning, filmed = (
            Sampler(distribution, len(tasks), episodes, workers, act_on)
            for episodes in (options.episodes, 1)
        )
        for env in (learning, filmed):
            stack.callback(env.close)
            env.set_tasks(tasks)
        state: Any = agent.begin()
        try:
            for index in range(options.steps[-1] + 1):
                if index in options.steps:
                    played = filmed.play(agent, state, index, film, device)
                    for k, task in enumerate(tasks):
                        label = distribution.describe(task)
                        found[k].append(_episode(played, k, task, label, index, seeds[k]))
                if index < options.steps[-1]:
                    key = options.seed, keys.Purpose.EVALUATION, index
                    draws = RoundDraws(
                        (len(tasks), options.episodes), kind, width, key, spec.horizon
                    )
                    support = learning.play(agent, state, index, draws, device)
                    state = agent.adapt(state, support)
        except DivergedError as error:
            raise UnstableError(f"{error}; another --seed draws other episodes") from error
    return found


def film_key(seed: int) -> tuple[int, ...]:
    """Returns the key of the filmed episodes' randomness, the same after every number of steps."""
    return seed, keys.Phase.FILM


def _episode(played: Trajectories, k: int, task: Task, label: str, step: int, seed: int) -> Episode:
    steps = int(played.mask[k, :, 0].sum())
    obs = torch.cat([played.obs[k, :steps, 0], played.final_obs[k]])
    return Episode(
        task,
        label,
        step,
        seed,
        obs.cpu().numpy(),
        played.actions[k, :steps, 0].cpu().numpy(),
        played.rewards[k, :steps, 0].cpu().numpy(),
        float(returns_of(played)[k, 0]),
        int(played.solved_at[k, 0]),
        bool(played.truncated[k, steps - 1, 0]),
    )
