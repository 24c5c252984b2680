"""The agent that adapts an MLP policy by an inner rule, under any outer rule: MAML and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.agents.batch import Batch, CollectedBatch, Division, Share, learning_batch
from metarl.agents.derivatives.autograd import Autograd, SurrogateObjective, SurrogateParts
from metarl.agents.derivatives.by_hand import ByHand, LinearisedObjective
from metarl.agents.derivatives.policy_loss import PolicyLoss
from metarl.agents.inner.rule import NetworkShape, RuleSettings
from metarl.agents.meta_parameters import MlpAgent
from metarl.agents.normalisation import Normaliser, Statistics
from metarl.config.settings import AgentConfig
from metarl.graphs import graphed
from metarl.networks.mlp import MlpPolicy, concat_tasks, select_tasks
from metarl.parallel import in_parts
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
    task_batch: int = 0
    """Tasks whose activations are in memory at a time; 0: all."""

    def begin(self, meta: Params) -> Params:
        """Returns the parameters that every task starts from."""
        return self.policy.begin({**self.fixed, **meta})

    def division(self) -> Division:
        """Returns the groups and shares of tasks that the objective is computed in."""
        batches = [getattr(x, "batch", x) for x in (*self.supports, self.query)]
        return Division.of_batches(batches, self.policy, self.task_batch)

    def thinned(self, fraction: float, rng: np.random.Generator) -> Batch | None:
        """Returns a random part of each task's query, None for all of it."""
        return self.query.thinned(fraction, rng) if fraction < 1.0 else None

    def linearised(
        self, meta: Params, thinned: Batch | None, dtype: torch.dtype
    ) -> LinearisedObjective:
        """Returns the objective with kept derivatives at `meta`."""
        return LinearisedObjective(self, meta, thinned or self.query, dtype)

    def surrogate(self, clip: float) -> SurrogateObjective:
        """Returns the objective as a function that autograd differentiates."""
        return SurrogateObjective(self, clip)

    @graphed
    def gradient(self, meta: Params, entropy: float = 0.0) -> tuple[Params, Tensor]:
        """Returns the policy gradient through the adaptation, downhill, and the loss, from which
        the query's entropy is taken with that weight."""

        def loss(parts: SurrogateParts) -> Tensor:
            return -parts.gain - entropy * parts.entropy if entropy else -parts.gain

        gradient, parts = self.surrogate(float("inf")).gradient(meta, loss)
        return gradient, loss(parts)


@graphed
def adapted(
    policy: MlpPolicy, inner: ByHand | Autograd, params: Params, batch: Any, index: int, group: int
) -> Params:
    """Returns the parameters of K tasks after a step on their own batch, `group` at a time."""
    division = Division.of_batches([getattr(batch, "batch", batch)], policy, group)

    def of_share(share: Share) -> Params:
        return inner.step(select_tasks(params, share.rows), batch.tasks(share.rows), index)

    return concat_tasks(division.each(of_share))


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
        self.task_batch = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes that the user sees before training starts."""
        return self.outer.notes(self.policy.sizes, self.device)

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
        params = adapted(self.policy, self.inner, state.params, batch, index, self.task_batch)
        stats = (*state.stats, self.normaliser.statistics(support))
        return TaskState(params, (*state.supports, batch), stats)

    def meta_update(
        self, state: TaskState, query: Trajectories, rng: np.random.Generator
    ) -> Metrics:
        """Takes one outer step, from the episodes `query` that the adapted policies collected.

        Only after it do the statistics change that observations and rewards are normalised by.
        """
        stats = (*state.stats, self.normaliser.statistics(query))
        with in_parts():
            self.meta, self.outer_state, metrics = self.outer.step(
                self.meta, self.outer_state, self.objective(state, query), rng
            )
        self.normaliser = self.normaliser.after(*stats)
        return metrics

    @in_parts()
    def batch(self, trajectories: Trajectories) -> Any:
        """Returns the samples that a step learns from these episodes, as `inner` reads them."""
        normal = self.normaliser.trajectories(trajectories)
        batch = learning_batch(normal, self.config.advantages, self.spec.image)
        return batch if self.by_hand else CollectedBatch.of(batch, trajectories)

    def objective(self, state: TaskState, query: Trajectories) -> MetaBatch:
        """Returns the data that `meta_update` learns from."""
        query_batch, group = self.batch(query), self.task_batch
        return MetaBatch(self.policy, self.inner, state.supports, query_batch, self.fixed, group)
