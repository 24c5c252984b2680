"""RL2: a recurrent policy that learns within a task through its memory (arXiv:1611.02779).

Each trial (`trial_agent.py`) starts with an empty memory and keeps it from episode to episode. The
policy maximises the return of whole trials (`outer/trial_ppo.py`).

* With `normalisation.rewards` on, rewards in the network's inputs are divided by their root mean
  square over all of training, and clipped. The loss does not depend on the scale of rewards.
* The policy and the value function share one network and its memory.
* On a CPU parts of the trials are computed side by side, each on one thread.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metarl.acting.recurrent import RecurrentActing
from metarl.agents.inner.trial import TrialConfig
from metarl.agents.outer.trial_ppo import TrialPpo, TrialPpoConfig
from metarl.agents.outer.trials import Steps, parts_of
from metarl.agents.trial_agent import Past, Remembering, TrialAgent, Trials, by_trial, in_sequence
from metarl.config.settings import AgentConfig
from metarl.equations.distributions import ActionDistribution
from metarl.graphs import graphed
from metarl.networks.as_numpy import acting_recurrent
from metarl.networks.attention import Transformer
from metarl.networks.cells import Cell, Gates, Memory
from metarl.networks.recurrent import RecurrentPolicy
from metarl.parallel import in_parts, side_by_side
from metarl.types import Actor, EnvSpec, Metrics, Params, Trajectories


class Rl2(TrialAgent):
    """RL2 agent, with the methods begin, actor, adapt and meta_update."""

    config: AgentConfig
    outer: TrialPpo

    def __init__(
        self, spec: EnvSpec, config: AgentConfig, rng: np.random.Generator, device: torch.device
    ):
        assert isinstance(config.inner, TrialConfig)  # the catalogue sees to both
        assert isinstance(config.outer, TrialPpoConfig)
        self.spec, inner = spec, config.inner
        self.policy = RecurrentPolicy(
            spec, config.policy, cell_of(inner, spec.horizon), inner.embeddings, inner.head
        )
        outer = TrialPpo(self.policy, config.outer, config.advantages)
        super().__init__(self.policy.init(rng), outer, spec, config, device)
        # Each step of a transformer has arguments of other shapes, and would be a graph of its own.
        self.acted = self._acted if inner.cell == "transformer" else graphed(self._acted)

    @property
    def noise(self) -> tuple[str, int]:
        """Kind and width of the noise that an actor takes."""
        return self.policy.head.kind.noise, self.policy.head.noise_dim

    def begin(self) -> Trials:
        """Returns new trials with nothing remembered."""
        return Trials((), ())

    def acting_params(self) -> Params:
        """Returns the parameters that act."""
        return self.meta

    def _acted(
        self, params: Params, obs: Tensor, before: Tensor, memory: Memory, noise: Tensor
    ) -> tuple[Tensor, ActionDistribution, Memory]:
        """Returns actions at obs [K, E, obs_dim] of one step, their distribution, and the memory
        [K, E, ...] after it."""
        shape, inputs = obs.shape[:2], torch.cat([obs, before], -1)
        flat = tuple(x.flatten(0, 1) for x in memory)
        output, after = self.policy.run(params, inputs.flatten(0, 1)[:, None], flat)
        distribution = self.policy.head(params, output.view(*shape, -1))
        memory = tuple(x.unflatten(0, shape) for x in after)
        return distribution.sample(noise), distribution, memory

    def actor(self, state: Trials, episodes: slice) -> Actor:
        """Returns an actor that uses the memory of these trials."""
        return Remembering(self, state, episodes)

    def acting(self, state: Trials) -> RecurrentActing:
        """Returns the policy in numpy and what trials remember, for the workers that play."""
        return acting_recurrent(
            self.policy, self.meta, self.normaliser.numbers(), self.reward_scale(), state.past
        )

    def behaviour(self, state: Trials, outputs: Tensor) -> ActionDistribution:
        """Returns the distributions for the head's outputs, [K, T, E, output_dim]."""
        return self.policy.head.distribution(self.meta, outputs)

    @in_parts()
    def adapt(self, state: Trials, support: Trajectories) -> Trials:
        """Returns the trials with one more episode remembered. Leaves the agent unchanged."""
        shape = support.final_obs.shape[:2]
        past = state.past or self.empty_past(*shape)
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
            self.count(stats, steps.rewards, steps.mask)
        return metrics

    def trial_steps(self, state: Trials, query: Trajectories) -> Steps:
        """Returns the steps of K x E trials, each trial's episodes in sequence."""
        pasts = (self.empty_past(*query.final_obs.shape[:2]), *state.pasts)
        rounds = (*state.rounds, query)
        inputs = [self.inputs(played, past) for played, past in zip(rounds, pasts, strict=True)]
        return in_sequence(rounds, inputs)

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
        return self.policy.before(actions, self.scaled(rewards), ended)


def cell_of(inner: TrialConfig, horizon: int) -> Cell:
    """Returns the memory of a policy whose episodes have `horizon` steps; raises as `window_of`."""
    if inner.cell == "transformer":
        return Transformer(inner.size, inner.layers, inner.heads, inner.window_of(horizon))
    return Gates(inner.cell, inner.size)
