"""The agent that adapts an MLP policy by an inner rule, under any outer rule: MAML and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.agents.batch import CollectedBatch, chunks, learning_batch
from metarl.agents.derivatives.autograd import Autograd, SurrogateObjective, SurrogateParts
from metarl.agents.derivatives.by_hand import ByHand, LinearisedObjective, product_dtype
from metarl.agents.derivatives.policy_loss import PolicyLoss
from metarl.agents.inner.rule import NetworkShape, RuleSettings
from metarl.agents.meta_parameters import MlpAgent
from metarl.agents.normalisation import Normaliser, Statistics
from metarl.agents.outer.trpo import TrpoConfig
from metarl.config.settings import AgentConfig
from metarl.networks.mlp import MlpPolicy, concat_tasks, select_tasks
from metarl.types import EnvSpec, Metrics, Params, Trajectories


class TaskState(NamedTuple):
    """K tasks between the meta-parameters and their own."""

    params: Params
    """Shared by all tasks, but [K, ...] where a step adapted them."""
    supports: tuple[Any, ...]
    """The batch of each step so far."""
    stats: tuple[Statistics, ...]
    """Statistics of the episodes before each step."""


class MetaBatch(NamedTuple):
    """The data of a meta-update: the supports and the query of K tasks, and how they adapt.

    An outer rule asks for the form of the objective mean_i J_i(adapt(theta, support_i)) that it
    can use: linearised by hand, as a surrogate through autograd, or its gradient alone.
    """

    policy: MlpPolicy
    inner: Any
    """`ByHand` steps, where supports and query are a Batch, or `Autograd`, a CollectedBatch."""
    supports: Sequence[Any]
    """One for each inner step."""
    query: Any
    fixed: Params
    """Parameters that tasks start from besides the meta-parameters."""

    def begin(self, meta: Params) -> Params:
        """Returns the parameters that every task starts from."""
        return self.policy.begin({**self.fixed, **meta})

    def linearised(
        self, meta: Params, config: TrpoConfig, rng: np.random.Generator
    ) -> LinearisedObjective:
        """Returns the objective with kept derivatives at `meta`; `rng` thins the query."""
        thinned = self.query.thinned(config.query_fraction, rng)
        dtype = product_dtype(config.product_dtype, thinned.obs.device)
        return LinearisedObjective(self, meta, thinned, dtype)

    def surrogate(self, clip: float) -> SurrogateObjective:
        """Returns the objective as a function that autograd differentiates."""
        return SurrogateObjective(self, clip)

    def gradient(self, meta: Params, entropy: float = 0.0) -> tuple[Params, Tensor]:
        """Returns the policy gradient through the adaptation, downhill, and the loss, from which
        the query's entropy is taken with that weight."""

        def loss(parts: SurrogateParts) -> Tensor:
            return -parts.gain - entropy * parts.entropy if entropy else -parts.gain

        gradient, parts = self.surrogate(float("inf")).gradient(meta, loss)
        return gradient, loss(parts)


class PolicyGradientAgent(MlpAgent):
    """An agent whose inner rule adapts an MLP policy, under any outer rule that fits.

    Only `meta_update` and `load_state_dict` change the agent.
    """

    def __init__(
        self, spec: EnvSpec, config: AgentConfig, rng: np.random.Generator, device: torch.device
    ):
        inner = config.inner
        assert isinstance(inner, RuleSettings), inner  # the catalogue sees to it
        self.spec, self.config = spec, config
        self.policy = policy = MlpPolicy(spec, config.policy)
        weighted = config.outer.importance_weighted()
        estimator = "ratio" if weighted else getattr(inner, "estimator", "score")
        loss = PolicyLoss(spec, policy, estimator, getattr(inner, "dice_lambda", 1.0))
        shape = NetworkShape(policy.shapes, policy.layers, loss.sample_dim, config.policy.context)
        self.rule = inner.build(shape)
        self.by_hand = config.outer.derivatives == "by_hand"
        self.inner = ByHand(self.rule, loss) if self.by_hand else Autograd(self.rule, loss)
        start = policy.init(rng)
        own = self.rule.init(start, rng)
        meta, fixed = ({**start, **own}, {}) if self.rule.learns_start else (own, start)
        super().__init__(meta, config.outer.build(), device, fixed)
        self.normaliser = Normaliser.before_anything(spec, config, device)

    @property
    def steps(self) -> int:
        """Adaptation steps in a meta-iteration of training."""
        return self.rule.steps

    def begin(self) -> TaskState:
        """Every task starts at the meta-parameters."""
        return TaskState(self.policy.begin({**self.fixed, **self.meta}), (), ())

    def adapt(self, state: TaskState, support: Trajectories) -> TaskState:
        """Takes one inner step of every task on its own episodes. Changes nothing here."""
        batch, index = self.batch(support), len(state.supports)
        parts = [
            self.inner.step(select_tasks(state.params, rows), batch.tasks(rows), index)
            for rows in chunks([batch], self.policy)
        ]
        stats = (*state.stats, self.normaliser.statistics(support))
        return TaskState(concat_tasks(parts), (*state.supports, batch), stats)

    def meta_update(
        self, state: TaskState, query: Trajectories, rng: np.random.Generator
    ) -> Metrics:
        """Takes one outer step, from the episodes `query` that the adapted policies collected.

        Only after it do the statistics change that observations and rewards are normalised by.
        """
        stats = (*state.stats, self.normaliser.statistics(query))
        self.meta, self.outer_state, metrics = self.outer.step(
            self.meta, self.outer_state, self.objective(state, query), rng
        )
        self.normaliser = self.normaliser.after(*stats)
        return metrics

    def batch(self, trajectories: Trajectories) -> Any:
        """Returns the samples that a step learns from these episodes, as `inner` reads them."""
        normal = self.normaliser.trajectories(trajectories)
        batch = learning_batch(normal, self.config.advantages)
        return batch if self.by_hand else CollectedBatch.of(batch, trajectories)

    def objective(self, state: TaskState, query: Trajectories) -> MetaBatch:
        """Returns the data that `meta_update` learns from."""
        return MetaBatch(self.policy, self.inner, state.supports, self.batch(query), self.fixed)
