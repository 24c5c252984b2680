"""An agent that adapts by an inner rule and meta-learns by an outer one."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.agents.batch import Batch, learning_batch
from metarl.agents.chunks import chunks
from metarl.agents.inner.learned import LearnedSteps
from metarl.agents.inner.sgd import Sgd
from metarl.agents.normalisation import Normaliser, Statistics
from metarl.agents.objective import AdaptationObjective
from metarl.agents.outer.trpo import Trpo
from metarl.agents.saved_weights import checked
from metarl.config.settings import (
    LEARNED,
    AgentConfig,
    LearnedOptimizerConfig,
    NoUpdateConfig,
    PpoConfig,
    SgdConfig,
    TrpoConfig,
)
from metarl.device import product_dtype
from metarl.equations.distributions import ActionDistribution
from metarl.errors import UserError
from metarl.networks.mlp import MlpPolicy, concat_tasks, select_tasks
from metarl.sampling.collect import memoryless
from metarl.types import Actor, EnvSpec, Metrics, Params, Trajectories


class TaskState(NamedTuple):
    """K tasks on their way from the meta-parameters to their own."""

    params: Params
    """Shared but for those that a step moved, [K, ...]; `mlp.select_tasks` takes one task's."""
    supports: tuple[Batch, ...]
    """What each step so far learned from."""
    seen: tuple[Statistics, ...]
    """Of the episodes before each step."""


class GradientAgent:
    """MAML and its kin: begin, act, adapt, meta_update.

    Only `meta_update` and `load_state_dict` change the agent.
    """

    def __init__(
        self, spec: EnvSpec, config: AgentConfig, rng: np.random.Generator, device: torch.device
    ):
        self.spec, self.config, self.device = spec, config, device
        inner, outer = config.inner, config.outer
        dice = isinstance(inner, SgdConfig) and inner.estimator == "dice"
        if dice and not isinstance(outer, PpoConfig):
            raise UserError(
                f"agent {config.name!r} differentiates its inner loss by hand, which "
                "agent.inner.estimator 'dice' has no form for\n"
                "  take PPO outside, --agent dice-maml, or --agent.inner.estimator score"
            )
        self.policy = MlpPolicy(spec, config.policy)
        self.inner = self.rule()
        if isinstance(outer, TrpoConfig):  # without one there is nothing to update by
            self.outer = Trpo(outer)
        start = {name: x.to(device) for name, x in self.policy.init(rng).items()}
        own = {name: x.to(device) for name, x in self.inner.init(start, rng).items()}
        fixed = isinstance(inner, LearnedOptimizerConfig) and not inner.learn_start
        self.fixed: Params = start if fixed else {}
        """What tasks start from and no update changes."""
        self.meta: Params = own if fixed else {**start, **own}
        self.normaliser = Normaliser.before_anything(
            config.normalisation, config.advantages.discount, spec.obs_dim, device
        )

    def rule(self) -> Sgd | LearnedSteps:
        """The inner rule that the settings ask for."""
        inner = self.config.inner
        if isinstance(inner, SgdConfig):
            return Sgd(self.policy, inner)
        assert isinstance(inner, LEARNED)  # what the catalogue builds this agent of
        return LearnedSteps(self.spec, self.policy, inner)

    @property
    def noise(self) -> tuple[str, int]:
        """The kind of noise that `act` takes, and its width."""
        return self.policy.kind.noise, self.policy.noise_dim

    @property
    def steps(self) -> int:
        """Adaptation steps in a meta-iteration of training."""
        return self.inner.config.steps

    def begin(self) -> TaskState:
        """Every task starts at the meta-parameters."""
        return TaskState(self.policy.begin({**self.fixed, **self.meta}), (), ())

    def act(
        self, state: TaskState, obs: Tensor, noise: Tensor
    ) -> tuple[Tensor, ActionDistribution]:
        """Actions [K, E, act_dim] at obs [K, E, obs_dim], and the distribution they came from."""
        distribution = self.policy(state.params, self.normaliser.obs(obs))
        return distribution.sample(noise), distribution

    def actor(self, state: TaskState, episodes: slice) -> Actor:
        """Acts by `act`; which episodes it is does not matter."""
        return memoryless(partial(self.act, state))(episodes)

    def adapt(self, state: TaskState, support: Trajectories) -> TaskState:
        """One inner step of every task on its own episodes. Changes nothing here."""
        batch = self.batch(support)
        index = len(state.supports)
        parts = [
            self.inner.step(select_tasks(state.params, rows), batch.tasks(rows), index)
            for rows in chunks([batch], self.policy)
        ]
        seen = self.normaliser.statistics(support)
        return TaskState(concat_tasks(parts), (*state.supports, batch), (*state.seen, seen))

    def meta_update(
        self, state: TaskState, query: Trajectories, rng: np.random.Generator
    ) -> Metrics:
        """One outer step, from the episodes `query` that the adapted policies collected.

        Only after it do the statistics change that observations and rewards are normalised by.
        Without an outer rule they are all that changes.
        """
        metrics: Metrics = {"skipped": 0.0}
        seen = (*state.seen, self.normaliser.statistics(query))
        if not isinstance(self.config.outer, NoUpdateConfig):
            self.meta, metrics = self.outer.step(self.meta, self.objective(state, query, rng))
        self.normaliser = self.normaliser.after(*seen)
        return metrics

    def batch(self, trajectories: Trajectories) -> Batch:
        """What a step learns from these episodes."""
        return learning_batch(self.normaliser.trajectories(trajectories), self.config.advantages)

    def objective(
        self, state: TaskState, query: Trajectories, rng: np.random.Generator
    ) -> AdaptationObjective:
        """What `meta_update` maximises. `rng` draws the thinned query of its products."""
        batch = self.batch(query)
        outer = self.outer.config
        return AdaptationObjective(
            self.policy,
            self.inner,
            self.meta,
            state.supports,
            batch,
            batch.thinned(outer.query_fraction, rng),
            product_dtype(outer.product_dtype, self.device),
            self.fixed,
        )

    def state_dict(self) -> Params:
        return {**self.fixed, **self.meta, **self.normaliser.state_dict()}

    def load_state_dict(self, state: Params) -> None:
        """Takes what `state_dict` saved.

        Raises:
            ValueError: where names or shapes are not this agent's.
        """
        copies = checked(state, self.state_dict(), self.device)
        self.fixed = {name: copies[name] for name in self.fixed}
        self.meta = {name: copies[name] for name in self.meta}
        self.normaliser = self.normaliser.loaded(copies)
