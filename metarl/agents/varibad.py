"""VariBAD: a policy that reads a belief about the task (arXiv:1910.08348).

A recurrent encoder reads each step of a trial (`trial_agent.py`). Its state gives a Gaussian belief
about a latent variable m of the task. The belief goes on from episode to episode. The policy reads
the observation with the mean and log-variance of the belief, and maximises the return of whole
trials (`outer/step_ppo.py`). Encoder and decoder learn from rewards alone (`outer/elbo.py`).

* Observations and beliefs are normalised for the policy, by `normalisation.observations`. Encoder
  and decoder read them raw, and rewards too, unless `normalisation.rewards` divides the rewards by
  their root mean square over all of training.
* Rewards of the policy's loss are standardised by the statistics of discounted returns.
* On a CPU parts of the trials are computed side by side, each on one thread.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.acting.belief import BeliefActing
from metarl.agents.inner.belief import BeliefConfig
from metarl.agents.outer.belief_ppo import BeliefBatch, BeliefPpo, BeliefPpoConfig, row_widths
from metarl.agents.outer.elbo import TrialData, stored, taken
from metarl.agents.outer.step_ppo import Played
from metarl.agents.outer.trials import parts_of
from metarl.agents.trial_agent import TrialAgent, by_trial, continued, in_sequence
from metarl.config.settings import AgentConfig
from metarl.config.torso import convolutions
from metarl.equations.distributions import ActionDistribution
from metarl.networks.as_numpy import acting_belief
from metarl.networks.belief import BeliefPolicy, Decoder, Encoder, Reads
from metarl.parallel import in_parts, side_by_side
from metarl.runs.replay import Replay
from metarl.types import Actor, EnvSpec, Metrics, Trajectories


class Trials(NamedTuple):
    """Rounds that K x E unfinished trials have played, and their beliefs."""

    rounds: tuple[Trajectories, ...]
    beliefs: tuple[Tensor, ...]
    """Beliefs before each step of each round, [K, T, E, 2 latent]."""
    memories: tuple[Tensor, ...]
    """Hidden states of the encoder after each round, [K, E, size]."""

    @property
    def memory(self) -> Tensor | None:
        """The hidden state after all rounds; None before the first."""
        return self.memories[-1] if self.memories else None


class VariBad(TrialAgent):
    """VariBAD agent, with the methods begin, actor, adapt and meta_update."""

    config: AgentConfig
    outer: BeliefPpo

    def __init__(
        self, spec: EnvSpec, config: AgentConfig, rng: np.random.Generator, device: torch.device
    ):
        inner, outer = config.inner, config.outer
        assert isinstance(inner, BeliefConfig)  # the catalogue sees to both
        assert isinstance(outer, BeliefPpoConfig)
        self.spec = spec
        self.policy = BeliefPolicy(spec, config.policy, inner.latent)
        width = self.policy.mlp.noise_dim
        image = convolutions(spec, config.policy)
        obs = Reads(spec.obs_dim, inner.obs_embedding, image)
        action = Reads(width, inner.action_embedding)
        reward = Reads(1, inner.reward_embedding)
        self.encoder = Encoder(obs, action, reward, inner.size, inner.latent)
        decoder = Decoder(obs, action, inner.latent, inner.decoder, outer.transitions > 0.0)
        params = {
            name: x
            for part in (self.policy, self.encoder, decoder)
            for name, x in part.init(rng).items()
        }
        rule = BeliefPpo(self.policy, self.encoder, decoder, outer, config.advantages)
        super().__init__(params, rule, self.policy.spec, config, device)
        rows = (inner.steps + 1) * (spec.horizon + 1)
        shapes = {name: (rows, n) for name, n in row_widths(spec).items()}
        self.replay = Replay(shapes, outer.replay)
        """Trials that encoder and decoder learn from."""

    @property
    def noise(self) -> tuple[str, int]:
        """Kind and width of the noise that an actor takes."""
        return self.policy.mlp.kind.noise, self.policy.mlp.noise_dim

    def begin(self) -> Trials:
        """Returns new trials, with the belief of no step."""
        return Trials((), (), ())

    def actor(self, state: Trials, episodes: slice) -> Actor:
        """Returns an actor whose belief goes on from that of these trials."""
        return Believing(self, state, episodes)

    def acting(self, state: Trials) -> BeliefActing:
        """Returns the policy in numpy and what trials remember, for the workers that play."""
        normal, scale = self.normaliser.numbers(), self.reward_scale()
        return acting_belief(self.policy, self.encoder, self.meta, normal, scale, state.memory)

    def behaviour(self, state: Trials, outputs: Tensor) -> ActionDistribution:
        """Returns the distributions for the network's outputs, [K, T, E, output_dim]."""
        return self.policy.mlp.distribution(self.meta, outputs)

    @in_parts()
    def adapt(self, state: Trials, support: Trajectories) -> Trials:
        """Returns the trials with one more episode in the belief. Leaves the agent unchanged."""
        beliefs, memory = self.encoded(support, state.memory)
        return Trials(
            (*state.rounds, support), (*state.beliefs, beliefs), (*state.memories, memory)
        )

    @in_parts()
    def meta_update(self, state: Trials, query: Trajectories, rng: np.random.Generator) -> Metrics:
        """Updates the policy by PPO on whole trials, then the belief on trials of the replay;
        `query` is their last round.

        The statistics that normalise change only after the update.
        """
        whole = self.adapt(state, query)
        played, inputs = self.played(whole), self.inputs(whole)
        if all(bool(x.isfinite().all()) for x in (*inputs, played.steps.rewards, played.reached)):
            self.remember(whole.rounds)
        self.meta, self.outer_state, metrics = self.outer.step(
            self.meta, self.outer_state, BeliefBatch(played, self.drawn), rng
        )
        if not metrics["skipped"]:
            pairs = zip(whole.rounds, inputs, strict=True)
            stats = [self.normaliser.statistics(one._replace(obs=x)) for one, x in pairs]
            self.count(stats, played.steps.rewards, played.steps.mask)
        return metrics

    def played(self, trials: Trials) -> Played:
        """Returns the steps of K x E whole trials in sequence, and where their episodes ended."""
        normal = [self.normaliser.obs(x) for x in self.inputs(trials)]
        steps = in_sequence(trials.rounds, normal)
        ends = zip(trials.rounds, trials.memories, strict=True)
        reached = [
            torch.cat([one.final_obs, self.encoder.beliefs(self.meta, memory)], -1).flatten(0, 1)
            for one, memory in ends
        ]
        lengths = torch.stack([one.mask.sum(1).flatten() for one in trials.rounds], 1)
        return Played(steps, lengths.cumsum(1) - 1, self.normaliser.obs(torch.stack(reached, 1)))

    def inputs(self, trials: Trials) -> list[Tensor]:
        """Returns what the policy reads at each step of each round, raw, [K, T, E, n]."""
        pairs = zip(trials.rounds, trials.beliefs, strict=True)
        return [torch.cat([one.obs, belief], -1) for one, belief in pairs]

    @torch.no_grad()
    def encoded(self, episode: Trajectories, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the beliefs before each step of an episode, [K, T, E, 2 latent], and the hidden
        state after its last one, [K, E, size]."""
        shape = episode.final_obs.shape[:2]
        memory = self.empty_memory(*shape) if memory is None else memory
        lengths = by_trial(episode.mask).sum(1)
        reached = by_trial(torch.cat([episode.obs[:, 1:], episode.final_obs[:, None]], 1))
        reached[torch.arange(len(lengths)), lengths - 1] = episode.final_obs.flatten(0, 1)
        actions = by_trial(self.encoded_actions(episode.actions))
        rewards = by_trial(self.scaled(episode.rewards))
        before = memory.flatten(0, 1)

        def one(rows: slice) -> tuple[Tensor, Tensor]:
            start, read = before[rows], (reached[rows], actions[rows], rewards[rows])
            states = self.encoder.run(self.meta, *read, start)
            found = torch.cat([start[:, None], states], 1)
            own = lengths[rows, None, None].expand(-1, 1, found.shape[-1])
            return self.encoder.beliefs(self.meta, found[:, :-1]), found.gather(1, own)[:, 0]

        parts = side_by_side(one, parts_of(reached))
        beliefs, after = (torch.cat(x) for x in zip(*parts, strict=True))
        return beliefs.unflatten(0, shape).transpose(1, 2), after.unflatten(0, shape)

    def encoded_actions(self, actions: Tensor) -> Tensor:
        """Returns actions as encoder and decoder read them, [..., n]."""
        return self.policy.mlp.encoded(actions).to(next(iter(self.meta.values())))

    def empty_memory(self, *shape: int) -> Tensor:
        """Returns the hidden state of trials [*shape] before their first step: zero."""
        return next(iter(self.meta.values())).new_zeros(*shape, self.encoder.size)

    def remember(self, rounds: tuple[Trajectories, ...]) -> None:
        """Adds the K x E trials of these rounds to the replay."""
        episodes = [
            stored(
                by_trial(one.obs),
                one.final_obs.flatten(0, 1),
                by_trial(self.encoded_actions(one.actions)),
                by_trial(one.rewards),
                by_trial(one.mask),
                self.spec.horizon,
            )
            for one in rounds
        ]
        self.replay.add({k: np.concatenate([x[k] for x in episodes], 1) for k in episodes[0]})

    def drawn(self, rng: np.random.Generator, number: int) -> TrialData:
        """Returns trials of the replay; with fewer than `number` in it, so many."""
        found = self.replay.draw(rng, min(number, len(self.replay)))
        data = taken(found, self.device)
        return data._replace(rewards=self.scaled(data.rewards))


class Believing:
    """Acts step by step in some episodes of K tasks, with the trials' belief."""

    def __init__(self, agent: VariBad, state: Trials, episodes: slice):
        self._agent, self._state, self._episodes = agent, state, episodes

    @torch.no_grad()
    def __call__(
        self, obs: Tensor, rewards: Tensor | None, noise: Tensor
    ) -> tuple[Tensor, ActionDistribution]:
        agent, params = self._agent, self._agent.meta
        if rewards is None:
            self._memory = self._begin(*obs.shape[:2])
        else:
            parts = obs, agent.encoded_actions(self._action), agent.scaled(rewards)
            reached, action, paid = (x.flatten(0, 1)[:, None] for x in parts)
            memory = self._memory.flatten(0, 1)
            states = agent.encoder.run(params, reached, action, paid, memory)
            self._memory = states.view_as(self._memory)
        inputs = torch.cat([obs, agent.encoder.beliefs(params, self._memory)], -1)
        distribution = agent.policy.head(params, agent.normaliser.obs(inputs))
        self._action = distribution.sample(noise)
        return self._action, distribution

    def _begin(self, num_tasks: int, episodes: int) -> Tensor:
        if self._state.memory is None:
            return self._agent.empty_memory(num_tasks, episodes)
        return continued(self._state.memory, self._episodes)
