"""Recurrent soft actor-critic: RL2's trials, learned off-policy from a replay (arXiv:2110.05038).

A meta-iteration plays its trials (`trial_agent.py`), adds them to the replay, and takes gradient
steps on trials of the replay (`outer/sac.py`).

* Actor and critics have GRUs of their own, which read the observation and the previous action,
  reward and end of an episode.
* Trials are kept as they were played. Normalisation is that of the present statistics, whenever
  they were played. With `normalisation.rewards` rewards in the inputs are divided by their root
  mean square; those of the targets are not.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metarl.acting.off_policy import OffPolicyActing
from metarl.agents.inner.replayed_trial import ReplayedTrialConfig
from metarl.agents.outer.sac import Sac, SacConfig, shapes_of
from metarl.agents.outer.sac_batches import Batch, Experience
from metarl.agents.trial_agent import Past, Remembering, TrialAgent, Trials, by_trial
from metarl.config.settings import AgentConfig
from metarl.equations.distributions import ActionDistribution
from metarl.graphs import graphed
from metarl.networks.as_numpy import acting_off_policy
from metarl.networks.cells import Memory
from metarl.networks.off_policy import Critics, RecurrentActor
from metarl.parallel import in_parts
from metarl.runs.replay import Replay
from metarl.types import Actor, EnvSpec, Metrics, Params, Trajectories


class Rl2Sac(TrialAgent):
    """Recurrent SAC agent, with the methods begin, actor, adapt and meta_update."""

    config: AgentConfig
    outer: Sac

    def __init__(
        self, spec: EnvSpec, config: AgentConfig, rng: np.random.Generator, device: torch.device
    ):
        assert isinstance(config.inner, ReplayedTrialConfig)  # the catalogue sees to both
        assert isinstance(config.outer, SacConfig)
        self.spec, self.settings = spec, config.outer
        size, embedding = config.inner.size, config.inner.embedding
        self.policy = RecurrentActor(spec, config.policy, size, embedding)
        self.critics = Critics(self.policy, config.outer.critics, embedding)
        meta = {**self.policy.init(rng), **self.critics.init(rng)}
        meta["log_temperature"] = torch.tensor([config.outer.temperature]).log()
        outer = Sac(self.policy, self.critics, config.outer, config.advantages)
        super().__init__(meta, outer, spec, config, device)
        self.acted = graphed(self._acted)
        shapes = shapes_of(spec, config.inner.steps, self.policy.noise_dim)
        self.replay = Replay(shapes, config.outer.replay)

    @property
    def noise(self) -> tuple[str, int]:
        """Kind and width of the noise that an actor takes."""
        return self.policy.kind.noise, self.policy.noise_dim

    def begin(self) -> Trials:
        """Returns new trials with nothing remembered."""
        return Trials((), ())

    def acting_params(self) -> Params:
        """Returns the parameters that act: random ones before anything is learned."""
        if self.outer.is_random(self.outer_state):
            return self.policy.random(self.meta)
        return self.meta

    def _acted(
        self, params: Params, obs: Tensor, before: Tensor, memory: Memory, noise: Tensor
    ) -> tuple[Tensor, ActionDistribution, Memory]:
        """Returns actions at obs [K, E, obs_dim] of one step, their distribution, and the memory
        [K, E, size] after it."""
        inputs = torch.cat([obs, before], -1).flatten(0, 1)[:, None]
        start = memory[0].flatten(0, 1)
        after = self.policy.encoder(params, inputs, start).view_as(memory[0])
        distribution = self.policy.distribution(self.policy.outputs(params, obs, after))
        return distribution.sample(noise), distribution, (after,)

    def actor(self, state: Trials, episodes: slice) -> Actor:
        """Returns an actor that uses the memory of these trials."""
        return Remembering(self, state, episodes)

    def acting(self, state: Trials) -> OffPolicyActing:
        """Returns the policy in numpy and what trials remember, for the workers that play."""
        params, normal = self.acting_params(), self.normaliser.numbers()
        return acting_off_policy(self.policy, params, normal, self.reward_scale(), state.past)

    def behaviour(self, state: Trials, outputs: Tensor) -> ActionDistribution:
        """Returns the distributions for the head's outputs, [K, T, E, output_dim]."""
        return self.policy.distribution(outputs)

    @in_parts()
    @torch.no_grad()
    def adapt(self, state: Trials, support: Trajectories) -> Trials:
        """Returns the trials with one more episode remembered. Leaves the agent unchanged."""
        shape = support.final_obs.shape[:2]
        past = state.past or self.empty_past(*shape)
        within = self.before(support.actions, support.rewards, ended=False)
        before = torch.cat([past.before[:, None], within[:, :-1]], 1)
        inputs = by_trial(torch.cat([self.normaliser.obs(support.obs), before], -1))
        memory = self.policy.encoder(self.meta, inputs, past.memory[0].flatten(0, 1))
        last = support.mask.sum(1)[:, None] - 1  # [K, 1, E]
        rows = torch.arange(len(memory), device=memory.device)
        after = memory[rows, last.flatten()].unflatten(0, shape)
        ending = within.take_along_dim(last[..., None], 1)[:, 0].clone()
        ending[..., -1] = 1.0
        return Trials((*state.rounds, support), (*state.pasts, Past((after,), ending)))

    @in_parts()
    def meta_update(self, state: Trials, query: Trajectories, rng: np.random.Generator) -> Metrics:
        """Adds the trials to the replay and learns from it; `query` is their last round.

        The statistics that normalise observations and rewards change only after the update. Trials
        with a number that is not finite are not added.
        """
        rounds = (*state.rounds, query)
        played = self.recorded(rounds)
        if not all(x.isfinite().all() for x in played.values()):
            return {"skipped": 1.0}
        stats = [self.normaliser.statistics(one) for one in rounds]
        count, steps = len(played["obs"]), int(played["mask"].sum())
        self.replay.add({name: x.cpu().numpy() for name, x in played.items()})
        objective = Experience(count, steps, self.drawn)
        self.meta, self.outer_state, metrics = self.outer.step(
            self.meta, self.outer_state, objective, rng
        )
        if not metrics["skipped"]:
            self.count(stats, played["rewards"], played["mask"].bool())
        return {**metrics, "replay/trials": float(len(self.replay))}

    def recorded(self, rounds: tuple[Trajectories, ...]) -> Params:
        """Returns the trials as the replay keeps them: arrays [K E, rows, ...] by name.

        Steps stand without gaps at the front, and the observation after the last one follows.
        `ended` marks the ends of episodes but the last, and `terminated` a last step that no value
        follows.
        """
        mask = torch.cat([by_trial(x.mask) for x in rounds], 1)
        lengths, rows = mask.sum(1), torch.arange(len(mask), device=mask.device)
        last, order = (rows, lengths - 1), (~mask).byte().argsort(dim=1, stable=True)
        ends = [x.terminated | x.truncated for x in rounds]
        steps = {
            "obs": [x.obs for x in rounds],
            "actions": [self.policy.encoded(x.actions) for x in rounds],
            "rewards": [x.rewards for x in rounds],
            "ended": [x.float() for x in ends],
            "terminated": [torch.zeros_like(x.rewards) for x in rounds],
            "mask": [x.mask.float() for x in rounds],
        }
        found = {}
        for name, parts in steps.items():
            x = torch.cat([by_trial(part) for part in parts], 1)[rows[:, None], order]
            fitting = x.new_zeros(len(x), *self.replay.shapes[name])
            fitting[:, : x.shape[1]] = x * _along(mask[rows[:, None], order], x)
            found[name] = fitting
        found["obs"][rows, lengths] = rounds[-1].final_obs.flatten(0, 1)
        terminated = by_trial(rounds[-1].terminated).any(1)
        if self.settings.end == "termination":
            terminated = torch.ones_like(terminated)
        found["terminated"][last] = terminated.float()
        found["ended"][last] = 0.0
        return found

    def drawn(self, rng: np.random.Generator) -> Batch:
        """Returns the batch of a gradient step."""
        kept = self.replay.draw(rng, self.settings.batch)
        rows, length = self.replay.length, self.settings.length
        mask, starts = kept["mask"], np.zeros(len(kept["mask"]), int)
        if 0 < length < rows - 1:
            latest = np.maximum(mask.sum(1).astype(int) - length, 0)
            starts = rng.integers(latest + 1)
        places = starts[:, None] + np.arange(min(length + 1, rows) if length else rows)
        own = np.arange(len(places))[:, None]
        before = np.maximum(places - 1, 0)
        some = {name: torch.from_numpy(x[own, places]).to(self.device) for name, x in kept.items()}
        past = (
            torch.from_numpy(kept[name][own, before]).to(self.device)
            for name in ("actions", "rewards", "ended")
        )
        begun = torch.from_numpy((places > 0).astype(np.float32)).to(self.device)
        return self.batch(some, self.described(*past) * begun[..., None])

    def batch(self, some: Params, before: Tensor) -> Batch:
        """Returns steps of trials, [N, L, ...], with what came before each, as a batch."""
        obs = self.normaliser.obs(some["obs"])
        weights = some["mask"].clone()
        weights[:, -1] = 0.0  # no row follows
        return Batch(
            torch.cat([obs, before], -1),
            obs,
            some["actions"],
            some["rewards"],
            1.0 - some["terminated"],
            weights / weights.sum(),
        )

    def empty_past(self, *shape: int) -> Past:
        """Returns the state of trials [*shape] before their first episode."""
        like = self.meta["log_temperature"]
        before = like.new_zeros(*shape, self.policy.before_dim)
        return Past((like.new_zeros(*shape, self.policy.size),), before)

    def before(self, actions: Tensor, rewards: Tensor, ended: bool) -> Tensor:
        """Returns the inputs that describe the previous step, [..., before_dim]; `ended` says
        whether an episode ended with it."""
        flags = torch.full_like(rewards, ended)
        return self.described(self.policy.encoded(actions), rewards, flags)

    def described(self, encoded: Tensor, rewards: Tensor, ended: Tensor) -> Tensor:
        """Returns the same at `encoded` actions, with a flag `ended` for each step."""
        return self.policy.before(encoded, self.scaled(rewards), ended)


def _along(x: Tensor, like: Tensor) -> Tensor:
    """Returns x [N, T] as numbers in the shape to multiply `like` [N, T, ...]."""
    return x.to(like.dtype).view(*x.shape, *[1] * (like.dim() - 2))
