"""MAML and its kin with PPO outside: maml-ppo, promp, e-maml, dice-maml, joint-ppo."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from metarl.agents.batch import learning_batch
from metarl.agents.gradient_agent import GradientAgent, TaskState
from metarl.agents.inner.differentiable import DifferentiableSgd, Round
from metarl.agents.inner.learned import LearnedSteps
from metarl.agents.outer.ppo import Ppo, SurrogateObjective
from metarl.config.settings import LEARNED, AgentConfig, PpoConfig, SgdConfig
from metarl.equations.adam import adam_loaded, adam_start, adam_state_dict
from metarl.equations.returns import standardize
from metarl.errors import UserError
from metarl.sampling.collect import returns_of
from metarl.types import EnvSpec, Metrics, Params, Trajectories

MOMENTS = "outer."
"""What the names of Adam's state begin with, beside those of parameters."""


class SurrogateAgent(GradientAgent):
    """A gradient agent whose outer rule is PPO; supports keep who collected them."""

    def __init__(
        self, spec: EnvSpec, config: AgentConfig, rng: np.random.Generator, device: torch.device
    ):
        inner, outer = config.inner, config.outer
        assert isinstance(outer, PpoConfig), outer
        self.ratio = outer.inner_ratio
        if self.ratio and isinstance(inner, SgdConfig) and inner.estimator == "dice":
            raise UserError(
                f"agent {config.name!r} has two inner losses at once\n"
                "  choose agent.inner.estimator: dice, or agent.outer.inner_ratio: true"
            )
        super().__init__(spec, config, rng, device)
        self.outer = Ppo(outer)
        self.adam = adam_start(self.meta)

    def rule(self) -> DifferentiableSgd | LearnedSteps:
        inner = self.config.inner
        if isinstance(inner, SgdConfig):
            return DifferentiableSgd(self.policy, inner, self.ratio)
        assert isinstance(inner, LEARNED)
        return LearnedSteps(self.spec, self.policy, inner, self.ratio)

    def meta_update(
        self, state: TaskState, query: Trajectories, rng: np.random.Generator
    ) -> Metrics:
        """One outer step, from the episodes `query` that the adapted policies collected.

        Only after it do the statistics change that observations and rewards are normalised by.
        """
        seen = (*state.seen, self.normaliser.statistics(query))
        objective = self.objective(state, query, rng)
        self.meta, self.adam, metrics = self.outer.step(self.meta, self.adam, objective)
        self.normaliser = self.normaliser.after(*seen)
        return metrics

    def batch(self, trajectories: Trajectories) -> Round:
        """What a step learns from these episodes."""
        normal = self.normaliser.trajectories(trajectories)
        return Round.of(learning_batch(normal, self.config.advantages), trajectories)

    def objective(
        self, state: TaskState, query: Trajectories, rng: np.random.Generator
    ) -> SurrogateObjective:
        """What `meta_update` maximises; nothing in it is drawn."""
        del rng
        returns = returns_of(query).mean(1)
        adapted_returns = standardize(returns, torch.full_like(returns, 1.0 / len(returns)))
        supports = cast("tuple[Round, ...]", state.supports)  # `adapt` keeps what `batch` makes
        return SurrogateObjective(
            self.policy,
            cast("DifferentiableSgd | LearnedSteps", self.inner),  # `rule`'s
            self.outer.config,
            supports,
            self.batch(query),
            adapted_returns,
            self.fixed,
        )

    def state_dict(self) -> Params:
        return {**super().state_dict(), **adam_state_dict(self.adam, MOMENTS)}

    def load_state_dict(self, state: Params) -> None:
        super().load_state_dict(state)
        copies = {name: x.to(self.device, copy=True) for name, x in state.items()}
        self.adam = adam_loaded(self.adam, copies, MOMENTS)
