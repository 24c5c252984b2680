"""Common parts of agents that learn within a task by remembering the episodes of a trial.

A trial is `steps` + 1 episodes of one task, and each of the K x E episode slots is a trial of its
own: round r of slot e is its r-th episode. RL2, recurrent SAC and VariBAD are such agents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from metarl.acting.trials import RewardScale
from metarl.agents.meta_parameters import MetaParameters
from metarl.agents.normalisation import Normaliser, Statistics
from metarl.agents.outer.rule import OuterRule
from metarl.agents.outer.trials import Steps
from metarl.config.settings import AgentConfig
from metarl.equations.distributions import ActionDistribution
from metarl.equations.running_stats import RunningStats, merge, no_stats, stats_of
from metarl.networks.cells import Memory
from metarl.types import EnvSpec, Params, Trajectories

REWARDS = "rewards."
"""Prefix of the names of the rewards' statistics in saved weights."""


class TrialAgent(MetaParameters):
    """The part of an agent of trials that normalises observations, and rewards in inputs."""

    config: AgentConfig
    normaliser: Normaliser
    episodes_per_step = 1
    """Episodes of a task that one adaptation step learns from. It is one however many are played
    together, since each belongs to another trial."""

    def __init__(
        self,
        meta: Params,
        outer: OuterRule,
        seen: EnvSpec,
        config: AgentConfig,
        device: torch.device,
    ):
        """`seen` is the environment as the policy sees it."""
        super().__init__(meta, outer, device)
        self.config = config
        observations = replace(config.normalisation, rewards=False)
        self.normaliser = Normaliser.before_anything(
            seen, replace(config, normalisation=observations), device
        )
        self.rewards = no_stats(device=device)
        """Statistics of single rewards, which scale the rewards in the inputs."""

    def reward_scale(self) -> RewardScale | None:
        """Returns the scale of rewards in the inputs, for numpy; None where they are raw."""
        if not self.config.normalisation.rewards:
            return None
        return RewardScale(float(root_mean_square(self.rewards)), self.config.normalisation.clip)

    def scaled(self, rewards: Tensor) -> Tensor:
        """Returns rewards as networks read them."""
        if not self.config.normalisation.rewards:
            return rewards
        clip = self.config.normalisation.clip
        return (rewards / root_mean_square(self.rewards)).clamp(-clip, clip).to(rewards)

    def count(self, rounds: Iterable[Statistics], rewards: Tensor, mask: Tensor) -> None:
        """Adds rounds to the statistics of observations, and `rewards` where `mask` to those of
        rewards."""
        self.normaliser = self.normaliser.after(*rounds)
        self.rewards = merge(self.rewards, stats_of(rewards, mask))

    def other_state(self) -> Params:
        rewards = {f"{REWARDS}{part}": x for part, x in self.rewards._asdict().items()}
        return {**self.normaliser.state_dict(), **rewards}

    def load_other_state(self, state: Params) -> None:
        self.normaliser = self.normaliser.loaded(state)
        rewards = {part: state[f"{REWARDS}{part}"] for part in RunningStats._fields}
        self.rewards = RunningStats(**rewards)


class Past(NamedTuple):
    """State that K x E trials carry into their next episode."""

    memory: Memory  # [K, E, ...] each
    before: Tensor  # [K, E, before_dim]: last action, its reward, whether an episode ended


class Trials(NamedTuple):
    """Rounds that K x E unfinished trials have played, and their state."""

    rounds: tuple[Trajectories, ...]
    pasts: tuple[Past, ...]
    """State after each round; the memory may be kept of the last one alone."""

    @property
    def past(self) -> Past | None:
        """Returns the state after all rounds; None before the first."""
        return self.pasts[-1] if self.pasts else None


class Rememberer(Protocol):
    """An agent whose policy reads the observation, the previous step and its memory."""

    normaliser: Normaliser

    def acting_params(self) -> Params:
        """Returns the parameters that act."""
        ...

    def acted(
        self, params: Params, obs: Tensor, before: Tensor, memory: Memory, noise: Tensor
    ) -> tuple[Tensor, ActionDistribution, Memory]:
        """Returns actions at normalised obs [K, E, obs_dim] of one step, their distribution, and
        the memory [K, E, ...] after it."""
        ...

    def before(self, actions: Tensor, rewards: Tensor, ended: bool) -> Tensor:
        """Returns the inputs that describe the previous step, [..., before_dim]."""
        ...

    def empty_past(self, *shape: int) -> Past:
        """Returns the state of trials [*shape] before their first episode."""
        ...


class Remembering:
    """Acts step by step in some episodes of K tasks, with the trials' memory."""

    def __init__(self, agent: Rememberer, state: Trials, episodes: slice):
        self._agent, self._past, self._episodes = agent, state.past, episodes
        self._params = agent.acting_params()

    @torch.no_grad()
    def __call__(
        self, obs: Tensor, rewards: Tensor | None, noise: Tensor
    ) -> tuple[Tensor, ActionDistribution]:
        agent = self._agent
        if rewards is None:
            self._memory, before = self._begun(*obs.shape[:2])
        else:
            before = agent.before(self._action, rewards, ended=False)
        self._action, distribution, self._memory = agent.acted(
            self._params, agent.normaliser.obs(obs), before, self._memory, noise
        )
        return self._action, distribution

    def _begun(self, num_tasks: int, episodes: int) -> Past:
        """Returns the state at the begin of the episodes."""
        if self._past is None:
            return self._agent.empty_past(num_tasks, episodes)
        memory = tuple(continued(x, self._episodes) for x in self._past.memory)
        return Past(memory, continued(self._past.before, self._episodes))


def continued(x: Tensor, episodes: slice) -> Tensor:
    """Returns what trials [K, E, ...] carry into some episodes. With more episodes to play than
    unfinished trials, several continue the same trial."""
    slots = torch.arange(episodes.start, episodes.stop) % x.shape[1]
    return x[:, slots]


def in_sequence(rounds: Sequence[Trajectories], inputs: Sequence[Tensor]) -> Steps:
    """Returns the steps of K x E trials, each trial's episodes in sequence; `inputs` are the
    network's, [K, T, E, n] for each round."""
    episodes = [
        Steps(
            by_trial(x),
            by_trial(played.actions),
            by_trial(played.behaviour.log_probs(played.actions)),
            by_trial(played.rewards),
            by_trial(played.mask),
            by_trial(played.truncated),
        )
        for played, x in zip(rounds, inputs, strict=True)
    ]
    return Steps(*(torch.cat(parts, 1) for parts in zip(*episodes, strict=True))).compact()


def by_trial(x: Tensor) -> Tensor:
    """Reshapes [K, T, E, ...] to [K E, T, ...]."""
    return x.transpose(1, 2).flatten(0, 1)


def root_mean_square(stats: RunningStats) -> Tensor:
    """Returns the root mean square, or one if it is zero. It includes the mean, unlike the
    deviation, so that it is not zero for a constant reward."""
    square = stats.m2 / stats.count.clamp(min=1.0) + stats.mean.square()
    return torch.where(square > 0, square.sqrt(), 1.0)
