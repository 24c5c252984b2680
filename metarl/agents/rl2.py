"""RL2: a recurrent policy that learns within a task through its memory (arXiv:1611.02779).

A trial is `steps` + 1 episodes of one task, and each of the K x E episode slots is a trial of
its own: round r of slot e is its r-th episode. Each trial starts with an empty memory and keeps it
from episode to episode. The policy maximises the return of whole trials (`outer/trial_ppo.py`).

* With `normalisation.rewards` on, rewards in the network's inputs are divided by their root mean
  square over all of training, and clipped. The loss does not depend on the scale of rewards.
* The policy and the value function share one network and its memory.
* On a CPU parts of the trials are computed side by side, each on one thread.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.acting.recurrent import RecurrentActing, RewardScale
from metarl.agents.inner.trial import TrialConfig
from metarl.agents.meta_parameters import MetaParameters
from metarl.agents.normalisation import Normaliser
from metarl.agents.outer.trial_ppo import TrialPpo, TrialPpoConfig
from metarl.agents.outer.trials import Steps, parts_of
from metarl.config.settings import AgentConfig
from metarl.equations.distributions import ActionDistribution
from metarl.equations.running_stats import RunningStats, merge, no_stats, stats_of
from metarl.graphs import graphed
from metarl.networks.as_numpy import acting_recurrent
from metarl.networks.attention import Transformer
from metarl.networks.cells import Cell, Gates, Memory
from metarl.networks.recurrent import RecurrentPolicy
from metarl.parallel import in_parts, side_by_side
from metarl.types import Actor, EnvSpec, Metrics, Params, Trajectories

REWARDS = "rewards."
"""Prefix of the names of the rewards' statistics in saved weights."""


class Past(NamedTuple):
    """State that K x E trials carry into their next episode."""

    memory: Memory  # [K, E, size] each
    before: Tensor  # [K, E, before_dim]: last action, its reward, whether an episode ended


class Trials(NamedTuple):
    """Rounds that K x E unfinished trials have played, and their state."""

    rounds: tuple[Trajectories, ...]
    pasts: tuple[Past, ...]
    """State after each round; only the last one has its memory."""


class Rl2(MetaParameters):
    """RL2 agent, with the methods begin, actor, adapt and meta_update."""

    config: AgentConfig
    outer: TrialPpo
    episodes_per_step = 1
    """Episodes of a task that one adaptation step learns from. It is one however many are played
    together, since each belongs to another trial."""

    def __init__(
        self, spec: EnvSpec, config: AgentConfig, rng: np.random.Generator, device: torch.device
    ):
        assert isinstance(config.inner, TrialConfig)  # the catalogue sees to both
        assert isinstance(config.outer, TrialPpoConfig)
        self.spec, self.config = spec, config
        inner = config.inner
        self.policy = RecurrentPolicy(
            spec, config.policy, cell_of(inner, spec.horizon), inner.embeddings, inner.head
        )
        outer = TrialPpo(self.policy, config.outer, config.advantages)
        super().__init__(self.policy.init(rng), outer, device)
        observations = replace(config.normalisation, rewards=False)
        self.normaliser = Normaliser.before_anything(
            spec, replace(config, normalisation=observations), device
        )
        # Each step of a transformer has arguments of other shapes, and would be a graph of its own.
        self.acted = self._acted if inner.cell == "transformer" else graphed(self._acted)
        self.rewards = no_stats(device=device)
        """Statistics of single rewards, which scale the rewards in the inputs."""

    @property
    def noise(self) -> tuple[str, int]:
        """Kind and width of the noise that an actor takes."""
        return self.policy.head.kind.noise, self.policy.head.noise_dim

    def begin(self) -> Trials:
        """Returns new trials with nothing remembered."""
        return Trials((), ())

    def _acted(
        self, params: Params, inputs: Tensor, memory: Memory, noise: Tensor
    ) -> tuple[Tensor, ActionDistribution, Memory]:
        """Returns actions at inputs [K, E, obs_dim + before_dim] of one step, their distribution,
        and the memory [K E, size] after it."""
        output, memory = self.policy.run(params, inputs.flatten(0, 1)[:, None], memory)
        distribution = self.policy.head(params, output.view(*inputs.shape[:2], -1))
        return distribution.sample(noise), distribution, memory

    def actor(self, state: Trials, episodes: slice) -> Actor:
        """Returns an actor that uses the memory of these trials."""
        return Remembering(self, state, episodes)

    def acting(self, state: Trials) -> RecurrentActing:
        """Returns the policy in numpy and what trials remember, for the workers that play."""
        scale = None
        if self.config.normalisation.rewards:
            root = float(root_mean_square(self.rewards))
            scale = RewardScale(root, self.config.normalisation.clip)
        past = state.pasts[-1] if state.pasts else None
        return acting_recurrent(self.policy, self.meta, self.normaliser.numbers(), scale, past)

    def behaviour(self, state: Trials, outputs: Tensor) -> ActionDistribution:
        """Returns the distributions for the head's outputs, [K, T, E, output_dim]."""
        return self.policy.head.distribution(self.meta, outputs)

    @in_parts()
    def adapt(self, state: Trials, support: Trajectories) -> Trials:
        """Returns the trials with one more episode remembered. Leaves the agent unchanged."""
        shape = support.final_obs.shape[:2]
        past = state.pasts[-1] if state.pasts else self.empty_past(*shape)
        inputs = by_trial(self.inputs(support, past))
        lengths = support.mask.sum(1)  # [K, E]
        before = [x.flatten(0, 1) for x in past.memory]

        def after(rows: slice) -> Memory:
            own = tuple(x[rows] for x in before)
            return self.policy.after(self.meta, inputs[rows], lengths.flatten()[rows], own)

        with torch.no_grad():
            found = side_by_side(after, parts_of(inputs, self.policy.cell.parallel))
        memory = (torch.cat(parts) for parts in zip(*found, strict=True))
        last = lengths[:, None] - 1  # [K, 1, E]
        action = support.actions.take_along_dim(last[..., None], 1)[:, 0]
        reward = support.rewards.take_along_dim(last, 1)[:, 0]
        now = Past(
            tuple(x.unflatten(0, shape) for x in memory), self.before(action, reward, ended=True)
        )
        earlier = (past._replace(memory=()) for past in state.pasts)  # it is in that of `now`
        return Trials((*state.rounds, support), (*earlier, now))

    @in_parts()
    def meta_update(self, state: Trials, query: Trajectories, rng: np.random.Generator) -> Metrics:
        """Updates the policy by PPO on whole trials; `query` is their last round.

        The statistics that normalise observations and rewards change only after the update.
        """
        steps = self.trial_steps(state, query)
        stats = [self.normaliser.statistics(played) for played in (*state.rounds, query)]
        self.meta, self.outer_state, metrics = self.outer.step(
            self.meta, self.outer_state, steps, rng
        )
        if not metrics["skipped"]:
            self.normaliser = self.normaliser.after(*stats)
            self.rewards = merge(self.rewards, stats_of(steps.rewards, steps.mask))
        return metrics

    def trial_steps(self, state: Trials, query: Trajectories) -> Steps:
        """Returns the steps of K x E trials, each trial's episodes in sequence."""
        pasts = (self.empty_past(*query.final_obs.shape[:2]), *state.pasts)
        episodes = [
            Steps(
                by_trial(self.inputs(played, past)),
                by_trial(played.actions),
                by_trial(played.behaviour.log_probs(played.actions)),
                by_trial(played.rewards),
                by_trial(played.mask),
                by_trial(played.truncated),
            )
            for played, past in zip((*state.rounds, query), pasts, strict=True)
        ]
        return Steps(*(torch.cat(parts, 1) for parts in zip(*episodes, strict=True))).compact()

    def empty_past(self, *shape: int) -> Past:
        """Returns the state of trials [*shape] before their first episode."""
        like = self.meta["value.bias"]
        before = like.new_zeros(*shape, self.policy.before_dim)
        return Past(self.policy.empty_memory(*shape, like=like), before)

    def inputs(self, played: Trajectories, past: Past) -> Tensor:
        """Returns the network's inputs at each step, [K, T, E, obs_dim + before_dim]."""
        within = self.before(played.actions[:, :-1], played.rewards[:, :-1], ended=False)
        before = torch.cat([past.before[:, None], within], 1)
        return torch.cat([self.normaliser.obs(played.obs), before], -1)

    def before(self, actions: Tensor, rewards: Tensor, ended: bool) -> Tensor:
        """Returns the inputs that describe the previous step, [..., before_dim]."""
        if self.config.normalisation.rewards:
            clip = self.config.normalisation.clip
            rewards = (rewards / root_mean_square(self.rewards)).clamp(-clip, clip).to(rewards)
        return self.policy.before(actions, rewards, ended)

    def other_state(self) -> Params:
        rewards = {f"{REWARDS}{part}": x for part, x in self.rewards._asdict().items()}
        return {**self.normaliser.state_dict(), **rewards}

    def load_other_state(self, state: Params) -> None:
        self.normaliser = self.normaliser.loaded(state)
        rewards = {part: state[f"{REWARDS}{part}"] for part in RunningStats._fields}
        self.rewards = RunningStats(**rewards)


def cell_of(inner: TrialConfig, horizon: int) -> Cell:
    """Returns the memory of a policy whose episodes have `horizon` steps; raises as `window_of`."""
    if inner.cell == "transformer":
        return Transformer(inner.size, inner.layers, inner.heads, inner.window_of(horizon))
    return Gates(inner.cell, inner.size)


class Remembering:
    """Acts step by step in some episodes of K tasks, with the trials' memory."""

    def __init__(self, agent: Rl2, state: Trials, episodes: slice):
        self._agent, self._state, self._episodes = agent, state, episodes

    @torch.no_grad()
    def __call__(
        self, obs: Tensor, rewards: Tensor | None, noise: Tensor
    ) -> tuple[Tensor, ActionDistribution]:
        agent, shape = self._agent, obs.shape[:2]
        if rewards is None:
            past = self._past(*shape)
            self._memory, before = tuple(x.flatten(0, 1) for x in past.memory), past.before
        else:
            before = agent.before(self._action, rewards, ended=False)
        inputs = torch.cat([agent.normaliser.obs(obs), before], -1)
        self._action, distribution, self._memory = agent.acted(
            agent.meta, inputs, self._memory, noise
        )
        return self._action, distribution

    def _past(self, num_tasks: int, episodes: int) -> Past:
        if not self._state.pasts:
            return self._agent.empty_past(num_tasks, episodes)
        past = self._state.pasts[-1]
        # With more episodes to play than unfinished trials, several continue the same trial.
        slots = torch.arange(self._episodes.start, self._episodes.stop) % past.before.shape[1]
        return Past(tuple(x[:, slots] for x in past.memory), past.before[:, slots])


def by_trial(x: Tensor) -> Tensor:
    """Reshapes [K, T, E, ...] to [K E, T, ...]."""
    return x.transpose(1, 2).flatten(0, 1)


def root_mean_square(stats: RunningStats) -> Tensor:
    """Returns the root mean square, or one if it is zero. It includes the mean, unlike the
    deviation, so that it is not zero for a constant reward."""
    square = stats.m2 / stats.count.clamp(min=1.0) + stats.mean.square()
    return torch.where(square > 0, square.sqrt(), 1.0)
